// Attention in chunks of the context with a running maximum and sum (FlashAttention, arXiv 2205.14135).
//
// A chunk is up to CHUNK slots in units of 16. Rows are queries: several heads that share a key head,
// several positions, or both. Chunks begin at fixed places of the context, so the order of additions
// does not depend on the batch.
#pragma once
#include <vector>

#include "matmul_float.h"

namespace r1 {

constexpr int CHUNK = 128;  // slots; their keys and values of one head stay in the L2 cache
constexpr int UNIT = 16;

// State of M query rows: outputs [M][ldo] not yet divided by `sum`.
struct FlashState {
  int rows, ldo;
  float* out;
  float* most;
  float* sum;

  void clear() {
    memset(out, 0, size_t(rows) * ldo * 4);
    for (int m = 0; m < rows; m++) most[m] = -INFINITY, sum[m] = 0;
  }
};

// scores[m][16 u ...] = q[m] . key unit u, where a key unit is [dim][16].
template <class E>
inline void score_units(const typename E::type* const* keys, int units, const float* const* q, int rows, int dim,
                        float* scores, int ld) {
  int m = 0;
  for (; m + 6 <= rows; m += 6)
    for (int u = 0; u < units; u++)
      float_tile_into<E, 6, 1>(keys + u, LANES, q + m, dim, scores + size_t(m) * ld + u * UNIT, ld, true);
#define R1_SCORES(T, P)                                                                                     \
  {                                                                                                         \
    int u = 0;                                                                                              \
    for (; u + P <= units; u += P)                                                                          \
      float_tile_into<E, T, P>(keys + u, LANES, q + m, dim, scores + size_t(m) * ld + u * UNIT, ld, true);  \
    for (; u < units; u++)                                                                                  \
      float_tile_into<E, T, 1>(keys + u, LANES, q + m, dim, scores + size_t(m) * ld + u * UNIT, ld, true);  \
  }
  switch (rows - m) {
    case 1: R1_SCORES(1, 4) break;
    case 2: R1_SCORES(2, 2) break;
    case 3: R1_SCORES(3, 2) break;
    case 4: R1_SCORES(4, 1) break;
    case 5: R1_SCORES(5, 1) break;
  }
#undef R1_SCORES
}

// Scores by dot products: 4 queries times 2 slots at a time.
template <class E>
inline void dot_scores(const typename E::type* const* slots, int count, const float* const* q, int rows, int dim,
                       float* scores, int ld) {
  for (int m = 0; m < rows; m += 4) {
    const float* a[4];
    for (int i = 0; i < 4; i++) a[i] = q[m + i < rows ? m + i : rows - 1];
    for (int s = 0; s < count; s += 2) {
      const typename E::type* b[2] = {slots[s], slots[s + 1 < count ? s + 1 : s]};
      v8 acc[4][2] = {};
      int d = 0;
      for (; d + 8 <= dim; d += 8) {
        const v8 k0 = E::load(b[0] + d), k1 = E::load(b[1] + d);
        for (int i = 0; i < 4; i++) {
          const v8 v = load8(a[i] + d);
          acc[i][0] += v * k0;
          acc[i][1] += v * k1;
        }
      }
      for (int i = 0; i < 4 && m + i < rows; i++)
        for (int j = 0; j < 2 && s + j < count; j++) {
          float total = sum8(acc[i][j]);
          for (int e = d; e < dim; e++) total += a[i][e] * E::get(b[j] + e);
          scores[size_t(m + i) * ld + s + j] = total;
        }
    }
  }
}

// Turns scores into weights and rescales the state. Row m sees slots [0, valid[m]) of the chunk.
inline void soften(FlashState& state, float* scores, int ld, int slots, const int* valid) {
  const int padded = (slots + UNIT - 1) / UNIT * UNIT;
  for (int m = 0; m < state.rows; m++) {
    float* s = scores + size_t(m) * ld;
    const int n = valid[m] < 0 ? 0 : valid[m] < slots ? valid[m] : slots;
    if (n == 0) {
      memset(s, 0, size_t(padded) * 4);
      continue;
    }
    for (int i = n; i < padded; i++) s[i] = -INFINITY;
    v8 peak = load8(s);
    for (int i = 8; i < padded; i += 8) peak = max8(peak, load8(s + i));
    float most = largest8(peak);
    if (most > state.most[m]) {
      const float factor = std::exp(state.most[m] - most);
      state.most[m] = most;
      state.sum[m] *= factor;
      float* out = state.out + size_t(m) * state.ldo;
      for (int i = 0; i < state.ldo; i += 8) store8(out + i, load8(out + i) * factor);
    }
    most = state.most[m];
    v8 total = splat(0.0f);
    for (int i = 0; i < padded; i += 8) {
      const v8 p = exp8(load8(s + i) - most);
      total += p;
      store8(s + i, p);
    }
    state.sum[m] += sum8(total);
  }
}

template <class E, int T, int P>
inline void value_tile(const typename E::type* const* values, int step, int slots, const float* const* weights,
                       float* out, int ldo, int column) {
  v8 acc[T][P][2];
  for (int t = 0; t < T; t++)
    for (int p = 0; p < P; p++)
      for (int h = 0; h < 2; h++) acc[t][p][h] = load8(out + size_t(t) * ldo + column + p * LANES + h * 8);
  for (int s = 0; s < slots; s += UNIT) {
    const typename E::type* at[P];
    const float* w[T];
    for (int p = 0; p < P; p++) at[p] = values[s / UNIT] + column + p * LANES;
    for (int t = 0; t < T; t++) w[t] = weights[t] + s;
    float_tile<E, T, P>(at, step, w, slots - s < UNIT ? slots - s : UNIT, acc);
  }
  for (int t = 0; t < T; t++)
    for (int p = 0; p < P; p++)
      for (int h = 0; h < 2; h++) store8(out + size_t(t) * ldo + column + p * LANES + h * 8, acc[t][p][h]);
}

template <class E, int T, int P>
inline void value_rows(const typename E::type* const* values, int step, int slots, const float* const* weights,
                       float* out, int ldo, int width) {
  int c = 0;
  for (; c + P * LANES <= width; c += P * LANES) value_tile<E, T, P>(values, step, slots, weights, out, ldo, c);
  for (; c < width; c += LANES) value_tile<E, T, 1>(values, step, slots, weights, out, ldo, c);
}

// out[m] += sum over slots of weights[m][slot] * value[slot], where values are [slot][step] per unit.
template <class E>
inline void add_values(FlashState& state, const typename E::type* const* values, int step, int slots,
                       const float* scores, int ld, int width) {
  for (int m = 0; m < state.rows; m += FLOAT_TILE) {
    const float* w[FLOAT_TILE];
    const int some = state.rows - m < FLOAT_TILE ? state.rows - m : FLOAT_TILE;
    for (int i = 0; i < some; i++) w[i] = scores + size_t(m + i) * ld;
    float* out = state.out + size_t(m) * state.ldo;
    switch (some) {
      case 1: value_rows<E, 1, 4>(values, step, slots, w, out, state.ldo, width); break;
      case 2: value_rows<E, 2, 2>(values, step, slots, w, out, state.ldo, width); break;
      case 3: value_rows<E, 3, 2>(values, step, slots, w, out, state.ldo, width); break;
      case 4: value_rows<E, 4, 1>(values, step, slots, w, out, state.ldo, width); break;
      case 5: value_rows<E, 5, 1>(values, step, slots, w, out, state.ldo, width); break;
      case 6: value_rows<E, 6, 1>(values, step, slots, w, out, state.ldo, width); break;
    }
  }
}

template <class E, int T, int P>
inline void row_tile(const typename E::type* const* rows, int count, const float* const* weights, float* out, int ldo,
                     int column) {
  v8 acc[T][P];
  for (int t = 0; t < T; t++)
    for (int p = 0; p < P; p++) acc[t][p] = load8(out + size_t(t) * ldo + column + p * 8);
  for (int i = 0; i < count; i++) {
    v8 row[P];
    for (int p = 0; p < P; p++) row[p] = E::load(rows[i] + column + p * 8);
    for (int t = 0; t < T; t++) {
      const v8 w = splat(weights[t][i]);
      for (int p = 0; p < P; p++) acc[t][p] += w * row[p];
    }
  }
  for (int t = 0; t < T; t++)
    for (int p = 0; p < P; p++) store8(out + size_t(t) * ldo + column + p * 8, acc[t][p]);
}

// out[m] += sum over i of weights[m][i] * rows[i], for rows anywhere in memory. `width` is a multiple of 16.
template <class E>
inline void add_rows(FlashState& state, const typename E::type* const* rows, int count, const float* scores, int ld,
                     int width) {
  for (int m = 0; m < state.rows; m += 3) {
    const float* w[3];
    const int some = state.rows - m < 3 ? state.rows - m : 3;
    for (int i = 0; i < some; i++) w[i] = scores + size_t(m + i) * ld;
    float* out = state.out + size_t(m) * state.ldo;
    int c = 0;
    for (; c + 32 <= width; c += 32) switch (some) {
        case 1: row_tile<E, 1, 4>(rows, count, w, out, state.ldo, c); break;
        case 2: row_tile<E, 2, 4>(rows, count, w, out, state.ldo, c); break;
        case 3: row_tile<E, 3, 4>(rows, count, w, out, state.ldo, c); break;
      }
    for (; c < width; c += 8) switch (some) {
        case 1: row_tile<E, 1, 1>(rows, count, w, out, state.ldo, c); break;
        case 2: row_tile<E, 2, 1>(rows, count, w, out, state.ldo, c); break;
        case 3: row_tile<E, 3, 1>(rows, count, w, out, state.ldo, c); break;
      }
  }
}

// [count][dim] rows at the given pointers to [dim][16] units, as floats; missing slots become 0.
template <class E>
inline void transpose_unit(const typename E::type* const* rows, int count, int dim, float* out) {
  const int whole = dim / 8 * 8;
  for (int half = 0; half < UNIT; half += 8)
    for (int d = 0; d < whole; d += 8) {
      v8 square[8];
      for (int s = 0; s < 8; s++) square[s] = half + s < count ? E::load(rows[half + s] + d) : v8{};
      transpose8(square);
      for (int i = 0; i < 8; i++) store8(out + size_t(d + i) * UNIT + half, square[i]);
    }
  for (int s = 0; s < UNIT; s++)
    for (int d = whole; d < dim; d++) out[size_t(d) * UNIT + s] = s < count ? E::get(rows[s] + d) : 0.0f;
}

}  // namespace r1
