// Products with float panels: y[t][16 rows] += sum over k of x[t][k] * w[k][16 rows].
//
// Every output is one chain of fused multiply-adds in ascending k, whatever the tile, so a row's result
// does not depend on the rows beside it. Tiles differ in shape alone: few input rows take several panels
// at once, many take one, so that 8 to 12 independent chains hide the latency of the multiply-add.
#pragma once
#include "matrix.h"

namespace r1 {

// acc[t][p][half]: T input rows, P panels. `step` is the distance in elements between two k.
template <class E, int T, int P>
inline __attribute__((always_inline)) void float_tile(const typename E::type* const* panels, int step,
                                                      const float* const* x, int count, v8 (*acc)[P][2]) {
  v8 sum[T][P][2];
  for (int t = 0; t < T; t++)
    for (int p = 0; p < P; p++) sum[t][p][0] = acc[t][p][0], sum[t][p][1] = acc[t][p][1];
  for (int k = 0; k < count; k++) {
    v8 w[P][2];
    for (int p = 0; p < P; p++) {
      w[p][0] = E::load(panels[p] + size_t(k) * step);
      w[p][1] = E::load(panels[p] + size_t(k) * step + 8);
    }
    for (int t = 0; t < T; t++) {
      const v8 value = splat(x[t][k]);
      for (int p = 0; p < P; p++) {
        sum[t][p][0] += value * w[p][0];
        sum[t][p][1] += value * w[p][1];
      }
    }
  }
  for (int t = 0; t < T; t++)
    for (int p = 0; p < P; p++) acc[t][p][0] = sum[t][p][0], acc[t][p][1] = sum[t][p][1];
}

// Accumulates into y: rows t at y + t * ldy, panel p at column 16 p. `first` starts from zero.
template <class E, int T, int P>
inline void float_tile_into(const typename E::type* const* panels, int step, const float* const* x, int count,
                            float* y, int ldy, bool first) {
  v8 acc[T][P][2];
  for (int t = 0; t < T; t++)
    for (int p = 0; p < P; p++)
      for (int h = 0; h < 2; h++)
        acc[t][p][h] = first ? v8{} : load8(y + size_t(t) * ldy + p * LANES + h * 8);
  float_tile<E, T, P>(panels, step, x, count, acc);
  for (int t = 0; t < T; t++)
    for (int p = 0; p < P; p++)
      for (int h = 0; h < 2; h++) store8(y + size_t(t) * ldy + p * LANES + h * 8, acc[t][p][h]);
}

// T rows times `panels` panels, P at a time.
template <class E, int T, int P>
inline void float_rows(const typename E::type* w, size_t panel_step, int step, int panels, const float* const* x,
                       int count, float* y, int ldy, bool first) {
  int p = 0;
  for (; p + P <= panels; p += P) {
    const typename E::type* at[P];
    for (int i = 0; i < P; i++) at[i] = w + panel_step * (p + i);
    float_tile_into<E, T, P>(at, step, x, count, y + p * LANES, ldy, first);
  }
  for (; p < panels; p++) {
    const typename E::type* at[1] = {w + panel_step * p};
    float_tile_into<E, T, 1>(at, step, x, count, y + p * LANES, ldy, first);
  }
}

// rows <= 6 of x times adjacent panels. w: first panel; panel_step: elements between panels.
template <class E>
inline void float_few(const typename E::type* w, size_t panel_step, int step, int panels, const float* const* x,
                      int rows, int count, float* y, int ldy, bool first) {
  switch (rows) {
    case 1: return float_rows<E, 1, 4>(w, panel_step, step, panels, x, count, y, ldy, first);
    case 2: return float_rows<E, 2, 2>(w, panel_step, step, panels, x, count, y, ldy, first);
    case 3: return float_rows<E, 3, 2>(w, panel_step, step, panels, x, count, y, ldy, first);
    case 4: return float_rows<E, 4, 1>(w, panel_step, step, panels, x, count, y, ldy, first);
    case 5: return float_rows<E, 5, 1>(w, panel_step, step, panels, x, count, y, ldy, first);
    case 6: return float_rows<E, 6, 1>(w, panel_step, step, panels, x, count, y, ldy, first);
  }
}

constexpr int FLOAT_TILE = 6;
constexpr int FLOAT_K_BLOCK = 512;  // a panel's part then stays in the second-level cache

// Any number of rows times `panels` panels (few enough for the second-level cache).
template <class E>
inline void float_many(const typename E::type* w, size_t panel_step, int step, int panels, const float* const* x,
                       int rows, int count, float* y, int ldy) {
  if (rows <= FLOAT_TILE) return float_few<E>(w, panel_step, step, panels, x, rows, count, y, ldy, true);
  for (int k = 0; k < count; k += FLOAT_K_BLOCK) {
    const int part = count - k < FLOAT_K_BLOCK ? count - k : FLOAT_K_BLOCK;
    for (int t = 0; t < rows; t += FLOAT_TILE) {
      const int some = rows - t < FLOAT_TILE ? rows - t : FLOAT_TILE;
      const float* at[FLOAT_TILE];
      for (int i = 0; i < some; i++) at[i] = x[t + i] + k;
      float_few<E>(w + size_t(k) * step, panel_step, step, panels, at, some, part, y + size_t(t) * ldy, ldy, k == 0);
    }
  }
}

// Float8 panels: the sum of each block of 128 is scaled by its row's factor.
template <int T>
inline void f8_tile(const uint8_t* panel, int cols, const float* const* x, float* y, int ldy) {
  v8 total[T][2] = {};
  for (int k = 0; k < cols; k += F8_BLOCK) {
    const float* scales = reinterpret_cast<const float*>(panel);
    const uint8_t* body[1] = {panel + LANES * 4};
    const float* at[T];
    for (int t = 0; t < T; t++) at[t] = x[t] + k;
    v8 acc[T][1][2] = {};
    float_tile<F8, T, 1>(body, LANES, at, cols - k < F8_BLOCK ? cols - k : F8_BLOCK, acc);
    const v8 low = load8(scales), high = load8(scales + 8);
    for (int t = 0; t < T; t++) {
      total[t][0] += acc[t][0][0] * low;
      total[t][1] += acc[t][0][1] * high;
    }
    panel += LANES * 4 + F8_BLOCK * LANES;
  }
  for (int t = 0; t < T; t++) {
    store8(y + size_t(t) * ldy, total[t][0]);
    store8(y + size_t(t) * ldy + 8, total[t][1]);
  }
}

inline void f8_panel(const uint8_t* panel, int cols, const float* const* x, int rows, float* y, int ldy) {
  int t = 0;
  for (; t + 4 <= rows; t += 4) f8_tile<4>(panel, cols, x + t, y + size_t(t) * ldy, ldy);
  for (; t + 2 <= rows; t += 2) f8_tile<2>(panel, cols, x + t, y + size_t(t) * ldy, ldy);
  for (; t < rows; t++) f8_tile<1>(panel, cols, x + t, y + size_t(t) * ldy, ldy);
}

}  // namespace r1
