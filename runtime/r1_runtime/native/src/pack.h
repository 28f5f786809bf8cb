// Conversion of stored tensors to packed panels, and of packed rows back to floats.
#pragma once
#include <algorithm>
#include <vector>

#include "matrix.h"

namespace r1 {

enum Source : int { SOURCE_F32 = 0, SOURCE_BF16, SOURCE_F16, SOURCE_F8, SOURCE_Q8_0, SOURCE_Q4_0, SOURCE_Q4_1 };

// A stored matrix, row-major. `scale` is F8's [ceil(rows / 128)][ceil(cols / 128)].
struct Stored {
  Source source;
  int rows, cols;
  const uint8_t* data;
  const float* scale;

  size_t row_bytes() const {
    switch (source) {
      case SOURCE_F32: return size_t(cols) * 4;
      case SOURCE_BF16:
      case SOURCE_F16: return size_t(cols) * 2;
      case SOURCE_F8: return cols;
      case SOURCE_Q8_0: return size_t(cols / 32) * 34;
      case SOURCE_Q4_0: return size_t(cols / 32) * 18;
      case SOURCE_Q4_1: return size_t(cols / 32) * 20;
    }
    return 0;
  }
  const uint8_t* row(int r) const { return data + row_bytes() * r; }
};

inline uint16_t read16(const uint8_t* p) {
  uint16_t h;
  memcpy(&h, p, 2);
  return h;
}

inline void decode_row(const Stored& s, int r, float* out) {
  const uint8_t* p = s.row(r);
  const int n = s.cols;
  switch (s.source) {
    case SOURCE_F32: memcpy(out, p, size_t(n) * 4); break;
    case SOURCE_BF16:
      for (int k = 0; k < n; k++) out[k] = bf16_to_float(read16(p + 2 * k));
      break;
    case SOURCE_F16:
      for (int k = 0; k < n; k++) out[k] = f16_to_float(read16(p + 2 * k));
      break;
    case SOURCE_F8: {
      const float* scales = s.scale ? s.scale + size_t(r / F8_BLOCK) * ceil_div(n, F8_BLOCK) : nullptr;
      for (int k = 0; k < n; k++) out[k] = F8::get(p + k) * (scales ? scales[k / F8_BLOCK] : 1.0f);
      break;
    }
    case SOURCE_Q8_0:
      for (int b = 0; b < n / 32; b++, p += 34) {
        float d = f16_to_float(read16(p));
        for (int k = 0; k < 32; k++) out[b * 32 + k] = d * float(int8_t(p[2 + k]));
      }
      break;
    case SOURCE_Q4_0:
      for (int b = 0; b < n / 32; b++, p += 18) {
        float d = f16_to_float(read16(p));
        for (int k = 0; k < 16; k++) {
          out[b * 32 + k] = d * float(int(p[2 + k] & 15) - 8);
          out[b * 32 + k + 16] = d * float(int(p[2 + k] >> 4) - 8);
        }
      }
      break;
    case SOURCE_Q4_1:
      for (int b = 0; b < n / 32; b++, p += 20) {
        float d = f16_to_float(read16(p)), m = f16_to_float(read16(p + 2));
        for (int k = 0; k < 16; k++) {
          out[b * 32 + k] = d * float(p[4 + k] & 15) + m;
          out[b * 32 + k + 16] = d * float(p[4 + k] >> 4) + m;
        }
      }
      break;
  }
}

// One block of 32 quantised values of one row: q and its factors, as they will be stored.
struct IntBlock {
  int8_t q[INT_BLOCK];
  uint16_t scale = 0, minimum = 0;
};

inline void round_block(const float* x, int n, Codec codec, IntBlock& out) {
  memset(out.q, codec == CODEC_INT4 ? 8 : 0, sizeof out.q);
  float low = 0, high = 0, most = 0;
  for (int k = 0; k < n; k++) {
    low = k ? std::min(low, x[k]) : x[k];
    high = k ? std::max(high, x[k]) : x[k];
    if (std::fabs(x[k]) > std::fabs(most)) most = x[k];
  }
  if (codec == CODEC_INT8) {
    out.scale = float_to_f16(std::fabs(most) / 127.0f);
    float d = f16_to_float(out.scale);
    for (int k = 0; k < n; k++)
      out.q[k] = d > 0 ? int8_t(std::max(-127.0f, std::min(127.0f, std::nearbyint(x[k] / d)))) : 0;
  } else if (codec == CODEC_INT4) {  // as Q4_0: the value of the largest magnitude becomes -8
    out.scale = float_to_f16(most / -8.0f);
    float d = f16_to_float(out.scale);
    for (int k = 0; k < n; k++)
      out.q[k] = d != 0 ? int8_t(std::max(0.0f, std::min(15.0f, std::nearbyint(x[k] / d + 8.0f)))) : 8;
  } else {
    out.scale = float_to_f16((high - low) / 15.0f);
    out.minimum = float_to_f16(low);
    float d = f16_to_float(out.scale), m = f16_to_float(out.minimum);
    for (int k = 0; k < n; k++)
      out.q[k] = d > 0 ? int8_t(std::max(0.0f, std::min(15.0f, std::nearbyint((x[k] - m) / d)))) : 0;
  }
}

// The stored block where its form is the packed one, so that no rounding is added.
inline bool take_block(const Stored& s, int r, int b, Codec codec, IntBlock& out) {
  if (s.source == SOURCE_Q8_0 && codec == CODEC_INT8) {
    const uint8_t* p = s.row(r) + size_t(b) * 34;
    out.scale = read16(p);
    memcpy(out.q, p + 2, 32);
    for (int k = 0; k < 32; k++)
      if (out.q[k] == -128) return false;  // the kernel's products would overflow
    return true;
  }
  const bool q40 = s.source == SOURCE_Q4_0 && codec == CODEC_INT4;
  if (!q40 && !(s.source == SOURCE_Q4_1 && codec == CODEC_INT4M)) return false;
  const uint8_t* p = s.row(r) + size_t(b) * (q40 ? 18 : 20);
  out.scale = read16(p);
  if (!q40) out.minimum = read16(p + 2);
  p += q40 ? 2 : 4;
  for (int k = 0; k < 16; k++) {
    out.q[k] = int8_t(p[k] & 15);
    out.q[k + 16] = int8_t(p[k] >> 4);
  }
  return true;
}

inline void put_block(uint8_t* block, int lane, Codec codec, const IntBlock& from) {
  memcpy(block + 2 * lane, &from.scale, 2);
  uint8_t* body = block + LANES * 2;
  if (codec == CODEC_INT4M) {
    memcpy(body + 2 * lane, &from.minimum, 2);
    body += LANES * 2;
  }
  if (codec == CODEC_INT8) {
    for (int k = 0; k < INT_BLOCK; k++) body[(k / 4) * 64 + lane * 4 + k % 4] = uint8_t(from.q[k]);
    return;
  }
  for (int g = 0; g < 4; g++)
    for (int k = 0; k < 4; k++)
      body[g * 64 + lane * 4 + k] = uint8_t((from.q[g * 8 + k] & 15) | (from.q[g * 8 + 4 + k] & 15) << 4);
}

inline void pack_row(Matrix& m, int row, const Stored& s, int r, std::vector<float>& values) {
  uint8_t* panel = m.panel(row / LANES);
  const int lane = row % LANES, n = s.cols;
  if (m.integer()) {
    const size_t bytes = panel_bytes(m.codec, INT_BLOCK);
    bool decoded = false;
    for (int b = 0; b < ceil_div(n, INT_BLOCK); b++) {
      IntBlock block;
      if (!take_block(s, r, b, m.codec, block)) {
        if (!decoded) decode_row(s, r, values.data());
        decoded = true;
        round_block(values.data() + b * INT_BLOCK, std::min(INT_BLOCK, n - b * INT_BLOCK), m.codec, block);
      }
      put_block(panel + b * bytes, lane, m.codec, block);
    }
    return;
  }
  if (m.codec == CODEC_F8) {  // from F8 alone: the bytes and their scales are kept
    const uint8_t* p = s.row(r);
    for (int k = 0; k < n; k++) {
      uint8_t* block = panel + size_t(k / F8_BLOCK) * (LANES * 4 + F8_BLOCK * LANES);
      if (k % F8_BLOCK == 0) {
        float scale = s.scale ? s.scale[size_t(r / F8_BLOCK) * ceil_div(n, F8_BLOCK) + k / F8_BLOCK] : 1.0f;
        scale *= 256.0f;
        memcpy(block + 4 * lane, &scale, 4);
      }
      block[LANES * 4 + (k % F8_BLOCK) * LANES + lane] = p[k];
    }
    return;
  }
  decode_row(s, r, values.data());
  if (m.codec == CODEC_F32) {
    float* out = reinterpret_cast<float*>(panel) + lane;
    for (int k = 0; k < n; k++) out[size_t(k) * LANES] = values[k];
  } else {
    uint16_t* out = reinterpret_cast<uint16_t*>(panel) + lane;
    for (int k = 0; k < n; k++) {
      if (m.codec == CODEC_BF16) BF16::put(out + size_t(k) * LANES, values[k]);
      else F16::put(out + size_t(k) * LANES, values[k]);
    }
  }
}

// Packs rows of `s`: row r becomes row offset + (r / 16) * step + r % 16. Step 16 stacks matrices;
// step 32 interleaves the panels of two.
inline void pack_rows(Matrix& m, const Stored& s, int offset, int step, int begin, int end) {
  std::vector<float> values(s.cols);
  for (int r = begin; r < end; r++) pack_row(m, offset + (r / LANES) * step + r % LANES, s, r, values);
}

// Row `row` of a packed matrix as floats (embedding).
inline void unpack_row(const Matrix& m, int row, float* out) {
  const uint8_t* panel = m.panel(row / LANES);
  const int lane = row % LANES;
  switch (m.codec) {
    case CODEC_F32: {
      const float* p = reinterpret_cast<const float*>(panel) + lane;
      for (int k = 0; k < m.cols; k++) out[k] = p[size_t(k) * LANES];
      return;
    }
    case CODEC_BF16:
    case CODEC_F16: {
      const uint16_t* p = reinterpret_cast<const uint16_t*>(panel) + lane;
      for (int k = 0; k < m.cols; k++)
        out[k] = m.codec == CODEC_BF16 ? bf16_to_float(p[size_t(k) * LANES]) : f16_to_float(p[size_t(k) * LANES]);
      return;
    }
    case CODEC_F8:
      for (int k = 0; k < m.cols; k++) {
        const uint8_t* block = panel + size_t(k / F8_BLOCK) * (LANES * 4 + F8_BLOCK * LANES);
        float scale;
        memcpy(&scale, block + 4 * lane, 4);
        out[k] = f16_to_float(F8::half(block[LANES * 4 + (k % F8_BLOCK) * LANES + lane])) * scale;
      }
      return;
    default: break;
  }
  const size_t bytes = panel_bytes(m.codec, INT_BLOCK);
  for (int k = 0; k < m.cols; k++) {
    const uint8_t* block = panel + size_t(k / INT_BLOCK) * bytes;
    const float scale = f16_to_float(read16(block + 2 * lane));
    const uint8_t* body = block + LANES * 2;
    const int i = k % INT_BLOCK;
    if (m.codec == CODEC_INT8) {
      out[k] = scale * float(int8_t(body[(i / 4) * 64 + lane * 4 + i % 4]));
      continue;
    }
    float minimum = -8.0f * scale;
    if (m.codec == CODEC_INT4M) {
      minimum = f16_to_float(read16(body + 2 * lane));
      body += LANES * 2;
    }
    uint8_t byte = body[(i / 8) * 64 + lane * 4 + i % 4];
    out[k] = scale * float(i % 8 < 4 ? byte & 15 : byte >> 4) + minimum;
  }
}

}  // namespace r1
