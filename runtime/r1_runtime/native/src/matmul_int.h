// Products with INT8 and INT4 panels: inputs are quantised to 8 bits per block of 32, as llama.cpp does.
//
// Sums within a block are exact integers; blocks are added in ascending order, so a row's result does
// not depend on the rows beside it.
#pragma once
#include <algorithm>

#include "matrix.h"

namespace r1 {

// Quantised input rows. `sums` are the integers' sums per block.
struct IntRow {
  const int8_t* q;
  const float* scales;
  const int32_t* sums;
};

// Layout of one quantised row of `cols` values in a flat buffer.
inline size_t int_row_bytes(int cols) {
  const size_t blocks = ceil_div(cols, INT_BLOCK);
  return (blocks * (INT_BLOCK + 8) + 31) / 32 * 32;
}
inline IntRow int_row(const uint8_t* buffer, int cols) {
  const size_t blocks = ceil_div(cols, INT_BLOCK);
  const float* scales = reinterpret_cast<const float*>(buffer + blocks * INT_BLOCK);
  return {reinterpret_cast<const int8_t*>(buffer), scales, reinterpret_cast<const int32_t*>(scales + blocks)};
}

inline void quantise_row(const float* x, int cols, uint8_t* buffer) {
  const int blocks = ceil_div(cols, INT_BLOCK);
  int8_t* q = reinterpret_cast<int8_t*>(buffer);
  float* scales = reinterpret_cast<float*>(buffer + size_t(blocks) * INT_BLOCK);
  int32_t* sums = reinterpret_cast<int32_t*>(scales + blocks);
  for (int b = 0; b < blocks; b++, q += INT_BLOCK) {
    float padded[INT_BLOCK];
    const float* at = x + b * INT_BLOCK;
    if (cols - b * INT_BLOCK < INT_BLOCK) {
      std::fill(padded, padded + INT_BLOCK, 0.0f);
      std::copy(at, x + cols, padded);
      at = padded;
    }
    v8 most = splat(0.0f), zero = splat(0.0f);
    for (int i = 0; i < 4; i++) {
      v8 v = load8(at + 8 * i);
      most = max8(most, max8(v, -v));
      zero += v * 0.0f;  // not 0 where an input is not finite, which must stay visible
    }
    const float amax = largest8(most), inverse = amax > 0 ? 127.0f / amax : 0.0f;
    const float scale = amax / 127.0f + sum8(zero);
    int32_t sum = 0;
#if defined(__AVX2__)
    __m256i n[4];
    for (int i = 0; i < 4; i++)
      n[i] = _mm256_cvtps_epi32(reinterpret_cast<__m256>(load8(at + 8 * i) * inverse));
    __m256i total = _mm256_add_epi32(_mm256_add_epi32(n[0], n[1]), _mm256_add_epi32(n[2], n[3]));
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), bytes);
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
    sum = _mm_cvtsi128_si32(half);
#else
    for (int i = 0; i < INT_BLOCK; i++) {
      q[i] = int8_t(std::nearbyint(at[i] * inverse));
      sum += q[i];
    }
#endif
    scales[b] = scale;
    sums[b] = sum;
  }
}

#if defined(__AVX2__)

inline __m256i broadcast4(const int8_t* p) {
  int32_t four;
  memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}
inline __m256i load256(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline v8 scales8(const uint8_t* p) { return load8_f16(reinterpret_cast<const uint16_t*>(p)); }
inline v8 to_float(__m256i v) { return reinterpret_cast<v8>(_mm256_cvtepi32_ps(v)); }

// acc + dot products of 4 bytes: |w| unsigned times x with w's sign.
inline __m256i dot4(__m256i acc, __m256i absolute, __m256i w, __m256i x) {
  const __m256i signed_x = _mm256_sign_epi8(x, w);
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  return _mm256_dpbusd_epi32(acc, absolute, signed_x);
#else
  const __m256i pairs = _mm256_maddubs_epi16(absolute, signed_x);
  return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

template <int T>
inline void int8_tile(const uint8_t* panel, int blocks, const IntRow* x, float* y, int ldy) {
  v8 total[T][2] = {};
  for (int b = 0; b < blocks; b++) {
    const uint8_t* body = panel + LANES * 2;
    __m256i acc[T][2];
    for (int t = 0; t < T; t++) acc[t][0] = acc[t][1] = _mm256_setzero_si256();
    for (int q = 0; q < 8; q++) {
      const __m256i w0 = load256(body + q * 64), w1 = load256(body + q * 64 + 32);
      const __m256i a0 = _mm256_abs_epi8(w0), a1 = _mm256_abs_epi8(w1);
      for (int t = 0; t < T; t++) {
        const __m256i four = broadcast4(x[t].q + b * INT_BLOCK + q * 4);
        acc[t][0] = dot4(acc[t][0], a0, w0, four);
        acc[t][1] = dot4(acc[t][1], a1, w1, four);
      }
    }
    const v8 s0 = scales8(panel), s1 = scales8(panel + 16);
    for (int t = 0; t < T; t++) {
      const v8 scale = splat(x[t].scales[b]);
      total[t][0] += to_float(acc[t][0]) * (s0 * scale);
      total[t][1] += to_float(acc[t][1]) * (s1 * scale);
    }
    panel += LANES * 2 + INT_BLOCK * LANES;
  }
  for (int t = 0; t < T; t++) store8(y + size_t(t) * ldy, total[t][0]), store8(y + size_t(t) * ldy + 8, total[t][1]);
}

template <int T, bool MINIMUM>
inline void int4_tile(const uint8_t* panel, int blocks, const IntRow* x, float* y, int ldy) {
  v8 total[T][2] = {};
  const __m256i low_nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  for (int b = 0; b < blocks; b++) {
    const uint8_t* body = panel + LANES * (MINIMUM ? 4 : 2);
    __m256i acc[T][2];  // 16-bit sums of 16 products of at most 15 * 127
    for (int t = 0; t < T; t++) acc[t][0] = acc[t][1] = _mm256_setzero_si256();
    for (int g = 0; g < 4; g++) {
      const __m256i w0 = load256(body + g * 64), w1 = load256(body + g * 64 + 32);
      const __m256i l0 = _mm256_and_si256(w0, low_nibble), l1 = _mm256_and_si256(w1, low_nibble);
      const __m256i h0 = _mm256_and_si256(_mm256_srli_epi16(w0, 4), low_nibble);
      const __m256i h1 = _mm256_and_si256(_mm256_srli_epi16(w1, 4), low_nibble);
      for (int t = 0; t < T; t++) {
        const __m256i four = broadcast4(x[t].q + b * INT_BLOCK + g * 8);
        const __m256i next = broadcast4(x[t].q + b * INT_BLOCK + g * 8 + 4);
        acc[t][0] = _mm256_add_epi16(acc[t][0], _mm256_maddubs_epi16(l0, four));
        acc[t][1] = _mm256_add_epi16(acc[t][1], _mm256_maddubs_epi16(l1, four));
        acc[t][0] = _mm256_add_epi16(acc[t][0], _mm256_maddubs_epi16(h0, next));
        acc[t][1] = _mm256_add_epi16(acc[t][1], _mm256_maddubs_epi16(h1, next));
      }
    }
    const v8 s0 = scales8(panel), s1 = scales8(panel + 16);
    for (int t = 0; t < T; t++) {
      const v8 scale = splat(x[t].scales[b]);
      __m256i d0 = _mm256_madd_epi16(acc[t][0], ones), d1 = _mm256_madd_epi16(acc[t][1], ones);
      if (MINIMUM) {
        const v8 sum = scale * float(x[t].sums[b]);
        total[t][0] += scales8(panel + 32) * sum;
        total[t][1] += scales8(panel + 48) * sum;
      } else {
        const __m256i offset = _mm256_set1_epi32(8 * x[t].sums[b]);
        d0 = _mm256_sub_epi32(d0, offset), d1 = _mm256_sub_epi32(d1, offset);
      }
      total[t][0] += to_float(d0) * (s0 * scale);
      total[t][1] += to_float(d1) * (s1 * scale);
    }
    panel += LANES * (MINIMUM ? 4 : 2) + INT_BLOCK * LANES / 2;
  }
  for (int t = 0; t < T; t++) store8(y + size_t(t) * ldy, total[t][0]), store8(y + size_t(t) * ldy + 8, total[t][1]);
}

#else  // plain C: the same sums in the same order

template <int T>
inline void int8_tile(const uint8_t* panel, int blocks, const IntRow* x, float* y, int ldy) {
  for (int t = 0; t < T; t++)
    for (int lane = 0; lane < LANES; lane++) {
      float total = 0;
      for (int b = 0; b < blocks; b++) {
        const uint8_t* block = panel + size_t(b) * (LANES * 2 + INT_BLOCK * LANES);
        int32_t sum = 0;
        for (int k = 0; k < INT_BLOCK; k++)
          sum += int8_t(block[LANES * 2 + (k / 4) * 64 + lane * 4 + k % 4]) * x[t].q[b * INT_BLOCK + k];
        uint16_t scale;
        memcpy(&scale, block + 2 * lane, 2);
        total += float(sum) * (f16_to_float(scale) * x[t].scales[b]);
      }
      y[size_t(t) * ldy + lane] = total;
    }
}

template <int T, bool MINIMUM>
inline void int4_tile(const uint8_t* panel, int blocks, const IntRow* x, float* y, int ldy) {
  const int head = LANES * (MINIMUM ? 4 : 2);
  for (int t = 0; t < T; t++)
    for (int lane = 0; lane < LANES; lane++) {
      float total = 0;
      for (int b = 0; b < blocks; b++) {
        const uint8_t* block = panel + size_t(b) * (head + INT_BLOCK * LANES / 2);
        int32_t sum = 0;
        for (int k = 0; k < INT_BLOCK; k++) {
          const uint8_t byte = block[head + (k / 8) * 64 + lane * 4 + k % 4];
          sum += int(k % 8 < 4 ? byte & 15 : byte >> 4) * x[t].q[b * INT_BLOCK + k];
        }
        uint16_t scale, minimum = 0;
        memcpy(&scale, block + 2 * lane, 2);
        if (MINIMUM) {
          memcpy(&minimum, block + LANES * 2 + 2 * lane, 2);
          total += f16_to_float(minimum) * (x[t].scales[b] * float(x[t].sums[b]));
        } else {
          sum -= 8 * x[t].sums[b];
        }
        total += float(sum) * (f16_to_float(scale) * x[t].scales[b]);
      }
      y[size_t(t) * ldy + lane] = total;
    }
}

#endif

// `rows` input rows times one panel, in tiles of at most 4.
inline void int_panel(Codec codec, const uint8_t* panel, int cols, const IntRow* x, int rows, float* y, int ldy) {
  const int blocks = ceil_div(cols, INT_BLOCK);
#define R1_TILE(T)                                                                      \
  if (codec == CODEC_INT8) int8_tile<T>(panel, blocks, x + t, y + size_t(t) * ldy, ldy); \
  else if (codec == CODEC_INT4) int4_tile<T, false>(panel, blocks, x + t, y + size_t(t) * ldy, ldy); \
  else int4_tile<T, true>(panel, blocks, x + t, y + size_t(t) * ldy, ldy);
  int t = 0;
  for (; t + 4 <= rows; t += 4) { R1_TILE(4) }
  switch (rows - t) {
    case 3: { R1_TILE(3) break; }
    case 2: { R1_TILE(2) break; }
    case 1: { R1_TILE(1) break; }
  }
#undef R1_TILE
}

}  // namespace r1
