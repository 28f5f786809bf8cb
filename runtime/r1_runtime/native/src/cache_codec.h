// Caches of 8 and 4 bits: a row (one slot's key, value or latent) is groups of 64 values, each with its
// own scale.
//
//   INT8   {f16 scale; [64] int8}                 value = scale * code
//   FP8    {f16 scale; [64] float8 e4m3}          value = scale * code, the largest of a group is 448
//   INT4   {f16 scale; f16 minimum; [32] bytes}   value = scale * code + minimum
//
// INT4: 16 values are 8 bytes, the low nibbles hold the first 8. A last group is padded to 16 values.
// Rows are read into floats, so that one kernel serves all codecs.
//
// Keys of INT4 are rotated by a Hadamard matrix, and so are queries, which leaves scores unchanged: single
// channels of keys are far larger than the others and would take the range of a whole group (QuaRot,
// arXiv 2404.00456). Every row has its own scales, so a slot's bytes depend on no other slot.
#pragma once
#include "flash.h"

namespace r1 {

constexpr int CODE_GROUP = 64;

inline v8 codes8(const uint8_t* p) {
#if defined(__AVX2__)
  return reinterpret_cast<v8>(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))));
#else
  v8 v;
  for (int i = 0; i < 8; i++) v[i] = float(p[i]);
  return v;
#endif
}

inline v8 rounded8(v8 x) { return (x + 12582912.0f) - 12582912.0f; }  // to the nearest integer, |x| < 2^22

// float8 e4m3 of a value of at most 448 in magnitude: an f16 of x / 256, rounded to 3 bits of mantissa.
inline uint8_t float_to_f8(float x) {
  const float small = std::fabs(x) * (1.0f / 256.0f);
  uint32_t bits;
  memcpy(&bits, &small, 4);
  if (bits > 0x7f800000) return 0x7f;  // NaN
  uint32_t code;
  if (small < 0x1p-14f) {
    code = uint32_t(std::nearbyint(small * 0x1p17f));  // subnormal: steps of 2^-17
  } else {
    bits += 0x7ffff + ((bits >> 20) & 1);
    code = (bits >> 20) - ((127 - 15) << 3);
  }
  if (code > 0x7e) code = 0x7e;
  return uint8_t(code | (std::signbit(x) ? 0x80 : 0));
}

// What the codecs share: `Group` encodes and decodes up to 64 values, a multiple of 16.
template <class Group>
struct PackedRows {
  typedef uint8_t type;

  static size_t bytes(int n) {
    const int padded = round_up(n, LANES), whole = padded / CODE_GROUP, rest = padded % CODE_GROUP;
    return size_t(whole) * Group::bytes(CODE_GROUP) + (rest ? Group::bytes(rest) : 0);
  }
  // Writes n values; the padding of the last group is encoded as zeros.
  static void put_row(uint8_t* to, const float* x, int n) {
    for (int at = 0; at < n; at += CODE_GROUP) {
      const int count = n - at < CODE_GROUP ? n - at : CODE_GROUP, padded = round_up(count, LANES);
      float group[CODE_GROUP];
      for (int i = 0; i < padded; i++) group[i] = i < count ? x[at + i] : 0.0f;
      Group::encode(group, padded, to);
      to += Group::bytes(padded);
    }
  }
  // Reads round_up(n, 16) values.
  static void get_row(const uint8_t* from, int n, float* out) {
    const int padded = round_up(n, LANES);
    for (int at = 0; at < padded; at += CODE_GROUP) {
      const int count = padded - at < CODE_GROUP ? padded - at : CODE_GROUP;
      Group::decode(from, count, out + at);
      from += Group::bytes(count);
    }
  }
  static float half(const uint8_t* p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return f16_to_float(h);
  }
  // Stores x as f16 and returns what was stored.
  static float put_half(uint8_t* p, float x) {
    uint16_t h;
    F16::put(&h, x);
    memcpy(p, &h, 2);
    return f16_to_float(h);
  }
};

inline float largest_magnitude(const float* x, int n) {
  float most = 0;
  for (int i = 0; i < n; i++) most = std::fabs(x[i]) > most ? std::fabs(x[i]) : most;
  return most;
}

struct Int8Group {
  static size_t bytes(int n) { return 2 + n; }
  static void encode(const float* x, int n, uint8_t* to) {
    const float scale = PackedRows<Int8Group>::put_half(to, largest_magnitude(x, n) / 127.0f);
    const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (int i = 0; i < n; i++) {
      const float code = std::nearbyint(x[i] * inverse);
      to[2 + i] = uint8_t(code > -127.0f ? code < 127.0f ? int(code) + 128 : 255 : 1);
    }
  }
  static void decode(const uint8_t* from, int n, float* out) {
    const float scale = PackedRows<Int8Group>::half(from);
    for (int i = 0; i < n; i += 8) store8(out + i, (codes8(from + 2 + i) - 128.0f) * scale);
  }
};

struct Float8Group {
  static size_t bytes(int n) { return 2 + n; }
  static void encode(const float* x, int n, uint8_t* to) {
    const float scale = PackedRows<Float8Group>::put_half(to, largest_magnitude(x, n) / 448.0f);
    const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (int i = 0; i < n; i++) to[2 + i] = float_to_f8(x[i] * inverse);
  }
  static void decode(const uint8_t* from, int n, float* out) {
    const float scale = PackedRows<Float8Group>::half(from) * 256.0f;  // F8 loads 1/256 of a value
    for (int i = 0; i < n; i += 8) store8(out + i, F8::load(from + 2 + i) * scale);
  }
};

struct Int4Group {
  static size_t bytes(int n) { return 4 + n / 2; }
  static void encode(const float* x, int n, uint8_t* to) {
    float low = x[0], high = x[0];
    for (int i = 1; i < n; i++) low = x[i] < low ? x[i] : low, high = x[i] > high ? x[i] : high;
    const float minimum = PackedRows<Int4Group>::put_half(to + 2, low);
    const float scale = PackedRows<Int4Group>::put_half(to, (high - minimum) / 15.0f);
    const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (int i = 0; i < n; i += 16)
      for (int j = 0; j < 8; j++) {
        const int a = code(x[i + j], minimum, inverse), b = code(x[i + 8 + j], minimum, inverse);
        to[4 + i / 2 + j] = uint8_t(a | b << 4);
      }
  }
  static void decode(const uint8_t* from, int n, float* out) {
    const float scale = PackedRows<Int4Group>::half(from), minimum = PackedRows<Int4Group>::half(from + 2);
    for (int i = 0; i < n; i += 16) {
#if defined(__AVX2__)
      const __m256i both = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 4 + i / 2)));
      const v8 first = reinterpret_cast<v8>(_mm256_cvtepi32_ps(_mm256_and_si256(both, _mm256_set1_epi32(15))));
      const v8 second = reinterpret_cast<v8>(_mm256_cvtepi32_ps(_mm256_srli_epi32(both, 4)));
#else
      v8 first, second;
      for (int j = 0; j < 8; j++) {
        first[j] = float(from[4 + i / 2 + j] & 15);
        second[j] = float(from[4 + i / 2 + j] >> 4);
      }
#endif
      store8(out + i, first * scale + minimum);
      store8(out + i + 8, second * scale + minimum);
    }
  }

 private:
  static int code(float x, float minimum, float inverse) {
    const float c = std::nearbyint((x - minimum) * inverse);
    return c > 0 ? c < 15 ? int(c) : 15 : 0;
  }
};

struct PackedInt8 : PackedRows<Int8Group> {};
struct PackedF8 : PackedRows<Float8Group> {};
struct PackedInt4 : PackedRows<Int4Group> {};

// Kernels read the stored elements of F32, F16 and BF16 in place, and rows of floats of the others.
template <class E>
struct CacheTraits {
  static constexpr bool packed = false, rotated = false;
  typedef E element;
  typedef E summary;  // of block summaries
};
template <>
struct CacheTraits<BF16> {
  static constexpr bool packed = false, rotated = false;
  typedef BF16 element;
  typedef F16 summary;
};
template <bool Rotated>
struct PackedTraits {
  static constexpr bool packed = true, rotated = Rotated;
  typedef F32 element;
  typedef F16 summary;
};
template <>
struct CacheTraits<PackedInt8> : PackedTraits<false> {};
template <>
struct CacheTraits<PackedF8> : PackedTraits<false> {};
template <>
struct CacheTraits<PackedInt4> : PackedTraits<true> {};

// x times an orthonormal Hadamard matrix, in blocks of the largest power of two that divides n.
inline void hadamard(float* x, int n) {
  const int block = n & -n;
  const float scale = 1.0f / std::sqrt(float(block));
  for (int at = 0; at < n; at += block)
    for (int half = 1; half < block; half *= 2)
      for (int i = 0; i < block; i += 2 * half)
        for (int j = i; j < i + half; j++) {
          const float a = x[at + j], b = x[at + j + half];
          x[at + j] = a + b;
          x[at + j + half] = a - b;
        }
  for (int i = 0; i < n; i++) x[i] *= scale;
}

}  // namespace r1
