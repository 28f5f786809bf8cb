// Inputs of a product: rows, normed or not, quantised where the matrix needs it.
#pragma once
#include "model.h"

namespace r1 {

constexpr int LOCAL_ROWS = 8;  // up to here each thread prepares all rows itself, which saves a barrier

// A source of `count` rows; `index` maps to other rows where it is not null.
struct RowSource {
  const float* data;
  int ld, count;
  const int32_t* index = nullptr;
  const float* at(int t) const { return data + size_t(index ? index[t] : t) * ld; }
};

// Fills `operand` with the rows (normed with `norm` unless it is null) for products of `cols` inputs.
// Contains a barrier where there are many rows; every thread must call it. Two operands that are alive at
// once use different buffers (0 and 1).
inline void prepare(Model& model, Worker& worker, Scratch& own, const RowSource& source, int cols, const float* norm,
                    float eps, bool integer, Operand& operand, int buffer = 0) {
  const int rows = source.count;
  operand.x.resize(rows);
  operand.q.resize(rows);
  if (!norm && !integer) {
    for (int t = 0; t < rows; t++) operand.x[t] = source.at(t);
    return;
  }
  const bool local = rows <= LOCAL_ROWS;
  const size_t ld = round_up(cols, LANES), bytes = int_row_bytes(cols);
  float* floats = nullptr;
  uint8_t* ints = nullptr;
  if (local) {
    if (norm) floats = own.rows[buffer].need(rows * ld);
    if (integer) ints = own.quantised[buffer].need(rows * bytes);
  } else {
    if (worker.index == 0) {
      if (norm) model.normed[buffer].need(rows * ld);
      if (integer) model.quantised[buffer].need(rows * bytes);
    }
    worker.barrier();
    floats = model.normed[buffer].data;
    ints = model.quantised[buffer].data;
  }
  auto fill = [&](int begin, int end) {
    for (int t = begin; t < end; t++) {
      const float* row = source.at(t);
      if (norm) {
        rms_norm(row, norm, eps, cols, floats + t * ld);
        row = floats + t * ld;
      }
      if (integer) quantise_row(row, cols, ints + t * bytes);
    }
  };
  if (local) {
    fill(0, rows);
  } else {
    worker.share(rows, ceil_div(rows, worker.count * 2), fill);
    worker.barrier();
  }
  for (int t = 0; t < rows; t++) {
    operand.x[t] = norm ? floats + t * ld : source.at(t);
    if (integer) operand.q[t] = int_row(ints + t * bytes, cols);
  }
}

// Number of panels that one thread takes at a time.
inline int panel_part(int panels, int threads) {
  const int part = panels / (threads * 4);
  return part < 1 ? 1 : part > 8 ? 8 : part;
}

}  // namespace r1
