// Grouped-query attention over a paged cache.
//
// A layer's cache is [block][key head]{keys [block_size / 16][head_dim][16]; values [block_size][head_ld]}:
// keys are transposed in units of 16 slots, so that scores need no horizontal sums.
#pragma once
#include "flash.h"
#include "rows.h"

namespace r1 {

constexpr int SPLIT = 2048;      // slots of one part of a long context that one row attends to
constexpr int QUERY_ROWS = 48;   // query rows (positions x heads of a group) of one part of a prompt

struct GqaCache {
  const Layer& layer;
  int block_size, head_ld;
  size_t head_values, block_values;

  GqaCache(const Layer& l, int size) : layer(l), block_size(size), head_ld(l.head_ld()) {
    head_values = size_t(block_size) * (l.shape.head_dim + head_ld);
    block_values = head_values * l.shape.kv_heads;
  }
  size_t unit(int block, int head, int slot) const {
    return block_values * block + head_values * head + size_t(slot / UNIT) * l().head_dim * UNIT;
  }
  size_t value(int block, int head, int slot) const {
    return block_values * block + head_values * head + size_t(block_size) * l().head_dim + size_t(slot) * head_ld;
  }
  const R1LayerShape& l() const { return layer.shape; }
};

inline void rotate(float* x, const float* c, const float* s, int dim, bool interleaved) {
  const int half = dim / 2;
  for (int i = 0; i < half; i++) {
    const int a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + half;
    const float first = x[a], second = x[b];
    x[a] = first * c[i] - second * s[i];
    x[b] = second * c[i] + first * s[i];
  }
}

// Where the row's cache entry lies: block and offset of a position of sequence s.
inline void slot_of(const R1Plan& plan, int s, int position, int block_size, int& block, int& offset) {
  block = plan.blocks[plan.block_starts[s] + position / block_size];
  offset = position % block_size;
}

// Norms and rotates queries and keys of rows [begin, end) in place; writes keys and values to the cache.
template <class E>
inline void gqa_write(Model& model, Layer& layer, const R1Plan& plan, const int32_t* sequence_of, int begin, int end) {
  const R1LayerShape& l = layer.shape;
  const int ld = layer.input.width(), half = l.rope_dim / 2;
  const GqaCache map(layer, model.shape.block_size);
  typename E::type* cache = reinterpret_cast<typename E::type*>(layer.cache.data());
  for (int t = begin; t < end; t++) {
    float* row = model.input.data + size_t(t) * ld;
    const float* c = layer.cos_table + size_t(plan.positions[t]) * half;
    const float* s = layer.sin_table + size_t(plan.positions[t]) * half;
    for (int h = 0; h < l.heads + l.kv_heads; h++) {
      float* head = row + h * l.head_dim;
      const bool query = h < l.heads;
      if (l.qk_norm) rms_norm(head, (query ? layer.q_norm : layer.k_norm).data(), model.shape.norm_eps, l.head_dim, head);
      rotate(head, c, s, l.rope_dim, l.interleaved);
      if (query)
        for (int d = 0; d < l.head_dim; d++) head[d] *= l.softmax_scale;
    }
    int block, offset;
    slot_of(plan, sequence_of[t], plan.positions[t], model.shape.block_size, block, offset);
    for (int g = 0; g < l.kv_heads; g++) {
      const float* key = row + (l.heads + g) * l.head_dim;
      const float* value = row + (l.heads + l.kv_heads + g) * l.head_dim;
      typename E::type* k = cache + map.unit(block, g, offset) + offset % UNIT;
      typename E::type* v = cache + map.value(block, g, offset);
      for (int d = 0; d < l.head_dim; d++) {
        E::put(k + size_t(d) * UNIT, key[d]);
        E::put(v + d, value[d]);
      }
    }
  }
}

// Attention of positions [first, last) of sequence s with key head g over slots [from, to).
// `partial`: null, or where the undivided state of a single row's heads goes: [group][head_ld + 2].
template <class E>
inline void gqa_part(Model& model, Layer& layer, const R1Plan& plan, Scratch& own, int s, int g, int first, int last,
                     int from, int to, float* partial) {
  const R1LayerShape& l = layer.shape;
  const int group = l.heads / l.kv_heads, rows = (last - first) * group, ld = layer.input.width();
  const GqaCache map(layer, model.shape.block_size);
  const typename E::type* cache = reinterpret_cast<const typename E::type*>(layer.cache.data());
  own.pointers.resize(rows);
  own.valid.resize(rows);
  for (int t = first; t < last; t++)
    for (int j = 0; j < group; j++)
      own.pointers[(t - first) * group + j] = model.input.data + size_t(t) * ld + (g * group + j) * l.head_dim;
  FlashState state{rows, map.head_ld, own.out.need(size_t(rows) * map.head_ld), own.state.need(2 * rows), own.state.data + rows};
  state.clear();
  float* scores = own.scores.need(size_t(rows) * CHUNK);
  own.units.resize(CHUNK / UNIT);
  own.units2.resize(CHUNK / UNIT);
  auto keys = reinterpret_cast<const typename E::type**>(own.units.data());
  auto values = reinterpret_cast<const typename E::type**>(own.units2.data());
  for (int at = from; at < to; at += CHUNK) {
    const int slots = to - at < CHUNK ? to - at : CHUNK, units = ceil_div(slots, UNIT);
    for (int u = 0; u < units; u++) {
      int block, offset;
      slot_of(plan, s, at + u * UNIT, model.shape.block_size, block, offset);
      keys[u] = cache + map.unit(block, g, offset);
      values[u] = cache + map.value(block, g, offset);
    }
    for (int m = 0; m < rows; m++) own.valid[m] = plan.positions[first + m / group] + 1 - at;
    score_units<E>(keys, units, own.pointers.data(), rows, l.head_dim, scores, CHUNK);
    soften(state, scores, CHUNK, slots, own.valid.data());
    add_values<E>(state, values, map.head_ld, slots, scores, CHUNK, map.head_ld);
  }
  for (int m = 0; m < rows; m++) {
    const float* out = state.out + size_t(m) * state.ldo;
    if (partial) {
      float* to_partial = partial + size_t(m) * (map.head_ld + 2);
      memcpy(to_partial, out, size_t(map.head_ld) * 4);
      to_partial[map.head_ld] = state.most[m];
      to_partial[map.head_ld + 1] = state.sum[m];
      continue;
    }
    float* mixed = model.mixed.data + size_t(first + m / group) * layer.output_ld() + (g * group + m % group) * l.head_dim;
    const float factor = 1.0f / state.sum[m];
    for (int d = 0; d < l.head_dim; d++) mixed[d] = out[d] * factor;
  }
}

}  // namespace r1
