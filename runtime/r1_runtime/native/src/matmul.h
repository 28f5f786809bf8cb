// Product of input rows with a range of a packed matrix's panels, by codec.
#pragma once
#include <vector>

#include "matmul_float.h"
#include "matmul_int.h"

namespace r1 {

// Input rows of a product. `q` is filled where an integer matrix reads them.
struct Operand {
  std::vector<const float*> x;
  std::vector<IntRow> q;

  int rows() const { return int(x.size()); }
};

constexpr int PANEL_GROUP = 4;  // panels that are multiplied together: their part stays in the L2 cache

// y[t][16 * (p - begin) ...] = x[t] . panel p, for rows [first, first + rows) of the operand.
inline void multiply(const Matrix& m, int begin, int end, const Operand& in, int first, int rows, float* y, int ldy) {
  const float* const* x = in.x.data() + first;
  const size_t stride = m.stride;
  for (int p = begin; p < end; p += PANEL_GROUP, y += PANEL_GROUP * LANES) {
    const int some = end - p < PANEL_GROUP ? end - p : PANEL_GROUP;
    const uint8_t* w = m.panel(p);
    switch (m.codec) {
      case CODEC_F32:
        float_many<F32>(reinterpret_cast<const float*>(w), stride / 4, LANES, some, x, rows, m.cols, y, ldy);
        break;
      case CODEC_BF16:
        float_many<BF16>(reinterpret_cast<const uint16_t*>(w), stride / 2, LANES, some, x, rows, m.cols, y, ldy);
        break;
      case CODEC_F16:
        float_many<F16>(reinterpret_cast<const uint16_t*>(w), stride / 2, LANES, some, x, rows, m.cols, y, ldy);
        break;
      case CODEC_F8:
        for (int i = 0; i < some; i++) f8_panel(w + stride * i, m.cols, x, rows, y + i * LANES, ldy);
        break;
      default:
        for (int t = 0; t < rows; t += 4) {
          const int few = rows - t < 4 ? rows - t : 4;
          for (int i = 0; i < some; i++)
            int_panel(m.codec, w + stride * i, m.cols, in.q.data() + first + t, few, y + size_t(t) * ldy + i * LANES, ldy);
        }
    }
    if (m.bias)
      for (int t = 0; t < rows; t++)
        for (int c = 0; c < some * LANES; c += 8) {
          float* at = y + size_t(t) * ldy + c;
          store8(at, load8(at) + load8(m.bias + p * LANES + c));
        }
  }
}

inline void rms_norm(const float* x, const float* weight, float eps, int n, float* out) {
  v8 squares = splat(0.0f);
  float rest = 0;
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    v8 v = load8(x + i);
    squares += v * v;
  }
  for (; i < n; i++) rest += x[i] * x[i];
  const float factor = 1.0f / std::sqrt((sum8(squares) + rest) / float(n) + eps);
  for (i = 0; i + 8 <= n; i += 8) store8(out + i, load8(x + i) * factor * load8(weight + i));
  for (; i < n; i++) out[i] = x[i] * factor * weight[i];
}

}  // namespace r1
