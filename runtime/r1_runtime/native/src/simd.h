// Vectors of 8 floats by the compiler's own vector type, so that one source serves AVX2, AVX-512,
// NEON and plain C. Integer dot products, which have no such type, are in matmul_int.h.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace r1 {

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));
typedef float v8u __attribute__((vector_size(32), aligned(4)));

constexpr int LANES = 16;  // rows of a panel, slots of a key block: two vectors

inline v8 load8(const float* p) { return *reinterpret_cast<const v8u*>(p); }
inline void store8(float* p, v8 v) { *reinterpret_cast<v8u*>(p) = v; }
inline v8 splat(float x) { return v8{x, x, x, x, x, x, x, x}; }
inline v8 max8(v8 a, v8 b) { return a > b ? a : b; }
inline v8 min8(v8 a, v8 b) { return a < b ? a : b; }

inline v8i iota8() { return v8i{0, 1, 2, 3, 4, 5, 6, 7}; }

// Whether one of the results of a comparison is true.
inline bool any8(v8i mask) {
#if defined(__AVX__)
  return _mm256_movemask_ps(reinterpret_cast<__m256>(mask));
#else
  int32_t all = 0;
  for (int i = 0; i < 8; i++) all |= mask[i];
  return all;
#endif
}

inline float sum8(v8 v) {
  float a = (v[0] + v[4]) + (v[2] + v[6]), b = (v[1] + v[5]) + (v[3] + v[7]);
  return a + b;
}
inline float largest8(v8 v) {
  float m = v[0];
  for (int i = 1; i < 8; i++) m = v[i] > m ? v[i] : m;
  return m;
}

// exp(x) for x <= 88, relative error below 2e-7; 0 below -87 (Cephes' polynomial).
inline v8 exp8(v8 x) {
  const v8 low = splat(-87.0f);
  v8i gone = x < low;
  x = max8(low, min8(splat(88.0f), x));  // in this order a NaN passes
  v8 scaled = x * 1.44269504088896341f;
  v8 shifted = scaled + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer
  v8i n = (v8i)shifted - 0x4B400000;
  v8 whole = shifted - 12582912.0f;
  v8 r = x - whole * 0.693359375f;
  r = r + whole * 2.12194440e-4f;
  v8 p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  v8i bits = (n + 127) << 23;
  p = p * (v8)bits;
  v8i kept = (v8i)p & ~gone;
  return (v8)kept;
}

// Transposes 8 x 8 floats: afterwards r[i][j] is what r[j][i] was.
inline void transpose8(v8 (&r)[8]) {
  v8 a[8], b[8];
  for (int i = 0; i < 4; i++) {
    a[2 * i] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    a[2 * i + 1] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; j++) {
      b[i + 2 * j] = __builtin_shufflevector(a[i + j], a[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      b[i + 2 * j + 1] = __builtin_shufflevector(a[i + j], a[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int i = 0; i < 4; i++) {
    r[i] = __builtin_shufflevector(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

inline v8 silu8(v8 x) { return x / (1.0f + exp8(-x)); }

inline float bf16_to_float(uint16_t h) {
  uint32_t bits = uint32_t(h) << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
inline uint16_t float_to_bf16(float f) {  // round to nearest even; NaN stays NaN
  uint32_t bits;
  memcpy(&bits, &f, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t((bits >> 16) | 0x40);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

#if defined(__F16C__)
inline float f16_to_float(uint16_t h) { return _cvtsh_ss(h); }
inline uint16_t float_to_f16(float f) { return uint16_t(_cvtss_sh(f, 0)); }
inline v8 load8_f16(const uint16_t* p) {
  return reinterpret_cast<v8>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void store8_f16(uint16_t* p, v8 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(reinterpret_cast<__m256>(v), 0));
}
inline v8 load8_bf16(const uint16_t* p) {
  __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return reinterpret_cast<v8>(_mm256_slli_epi32(wide, 16));
}
#else
inline float f16_to_float(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3ff;
  if (exponent == 0) {
    float f = std::ldexp(float(mantissa), -24);
    return sign ? -f : f;
  }
  uint32_t bits = sign | (mantissa << 13) | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23);
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
inline uint16_t float_to_f16(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  uint16_t sign = uint16_t((bits >> 16) & 0x8000);
  uint32_t rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return sign | 0x7e00;
  if (rest >= 0x477ff000) return sign | 0x7c00;
  if (rest < 0x38800000) {
    float scaled = std::fabs(f) * 16777216.0f;
    return sign | uint16_t(std::nearbyint(scaled));
  }
  rest += 0xfff + ((rest >> 13) & 1);
  return sign | uint16_t((rest - 0x38000000) >> 13);
}
inline v8 load8_f16(const uint16_t* p) {
  v8 v;
  for (int i = 0; i < 8; i++) v[i] = f16_to_float(p[i]);
  return v;
}
inline void store8_f16(uint16_t* p, v8 v) {
  for (int i = 0; i < 8; i++) p[i] = float_to_f16(v[i]);
}
inline v8 load8_bf16(const uint16_t* p) {
  v8 v;
  for (int i = 0; i < 8; i++) v[i] = bf16_to_float(p[i]);
  return v;
}
#endif

// Element types of panels and caches: how eight stored values become floats.
struct F32 {
  typedef float type;
  static v8 load(const float* p) { return load8(p); }
  static float get(const float* p) { return *p; }
  static void put(float* p, float x) { *p = x; }
};
struct BF16 {
  typedef uint16_t type;
  static v8 load(const uint16_t* p) { return load8_bf16(p); }
  static float get(const uint16_t* p) { return bf16_to_float(*p); }
  static void put(uint16_t* p, float x) { *p = float_to_bf16(x); }
};
struct F16 {
  typedef uint16_t type;
  static v8 load(const uint16_t* p) { return load8_f16(p); }
  static float get(const uint16_t* p) { return f16_to_float(*p); }
  static void put(uint16_t* p, float x) {  // saturates: an overflow would be an infinite score
    *p = float_to_f16(x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x);
  }
};
// float8 e4m3fn, as DeepSeek-V3 publishes its weights: its bits shifted are an f16 of 1/256 the value.
struct F8 {
  typedef uint8_t type;
  static uint16_t half(uint8_t u) { return uint16_t((u & 0x80) << 8 | (u & 0x7f) << 7); }
  static float get(const uint8_t* p) {
    if ((*p & 0x7f) == 0x7f) return NAN;
    return f16_to_float(half(*p)) * 256.0f;
  }
  static v8 load(const uint8_t* p) {
#if defined(__F16C__)
    __m128i wide = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    __m128i sign = _mm_slli_epi16(_mm_and_si128(wide, _mm_set1_epi16(0x80)), 8);
    __m128i rest = _mm_slli_epi16(_mm_and_si128(wide, _mm_set1_epi16(0x7f)), 7);
    return reinterpret_cast<v8>(_mm256_cvtph_ps(_mm_or_si128(sign, rest)));  // times 256 by the scale
#else
    v8 v;
    for (int i = 0; i < 8; i++) v[i] = f16_to_float(half(p[i]));
    return v;
#endif
  }
};

}  // namespace r1
