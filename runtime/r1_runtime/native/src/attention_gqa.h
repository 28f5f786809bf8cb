// Grouped-query attention over a paged cache.
//
// A layer's cache is [block][key head]{keys [block_size / 16][head_dim][16]; values [block_size][head_ld]}:
// keys are transposed in units of 16 slots, so that scores need no horizontal sums. With a packed codec it is
// [block][key head]{key rows [block_size]; value rows [block_size]}, and units are read into scratch memory.
#pragma once
#include "cache_codec.h"
#include "rows.h"

namespace r1 {

constexpr int SPLIT = 2048;      // slots of one part of a long context that one row attends to
constexpr int QUERY_ROWS = 48;   // query rows (positions x heads of a group) of one part of a prompt

// Offsets in a layer's cache, in elements of E.
template <class E>
struct GqaCache {
  const R1LayerShape& l;
  int block_size, head_ld;
  size_t key_row, value_row, head_values, block_values;

  GqaCache(const Layer& layer, int size) : l(layer.shape), block_size(size), head_ld(layer.head_ld()) {
    if constexpr (CacheTraits<E>::packed) {
      key_row = value_row = E::bytes(l.head_dim);
    } else {
      key_row = l.head_dim;
      value_row = head_ld;
    }
    head_values = size_t(block_size) * (key_row + value_row);
    block_values = head_values * l.kv_heads;
  }
  // First element of a slot's key row (packed), or of the unit of 16 slots that starts at `slot`.
  size_t unit(int block, int head, int slot) const {
    return block_values * block + head_values * head + size_t(slot / UNIT) * UNIT * key_row;
  }
  size_t key(int block, int head, int slot) const {
    return block_values * block + head_values * head + size_t(slot) * key_row;
  }
  size_t value(int block, int head, int slot) const {
    return block_values * block + head_values * head + size_t(block_size) * key_row + size_t(slot) * value_row;
  }
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
  const GqaCache<E> map(layer, model.shape.block_size);
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
      if (CacheTraits<E>::rotated) hadamard(head, l.head_dim);
      if (query)
        for (int d = 0; d < l.head_dim; d++) head[d] *= l.softmax_scale;
    }
    int block, offset;
    slot_of(plan, sequence_of[t], plan.positions[t], model.shape.block_size, block, offset);
    for (int g = 0; g < l.kv_heads; g++) {
      const float* key = row + (l.heads + g) * l.head_dim;
      const float* value = row + (l.heads + l.kv_heads + g) * l.head_dim;
      if constexpr (CacheTraits<E>::packed) {
        E::put_row(cache + map.key(block, g, offset), key, l.head_dim);
        E::put_row(cache + map.value(block, g, offset), value, l.head_dim);
      } else {
        typename E::type* k = cache + map.unit(block, g, offset) + offset % UNIT;
        typename E::type* v = cache + map.value(block, g, offset);
        for (int d = 0; d < l.head_dim; d++) {
          E::put(k + size_t(d) * UNIT, key[d]);
          E::put(v + d, value[d]);
        }
      }
    }
  }
}

// Reads units of 16 slots: keys [dim][16] and values [16][head_ld] of each, in the cache or in scratch memory.
template <class E>
struct GqaUnits {
  typedef typename CacheTraits<E>::element element;
  typedef typename element::type type;

  const GqaCache<E> map;
  const typename E::type* cache;
  const int head;
  const size_t capacity;
  float* scratch = nullptr;  // [units]{keys [dim_ld][16]; values [16][head_ld]}, and one unit's rows
  const type** keys;
  const type** values;

  // `units`: the most that are read at once.
  GqaUnits(const Model& model, const Layer& layer, Scratch& own, int g, int units)
      : map(layer, model.shape.block_size), cache(reinterpret_cast<const typename E::type*>(layer.cache.data())), head(g), capacity(units) {
    own.units.resize(units);
    own.units2.resize(units);
    keys = reinterpret_cast<const type**>(own.units.data());
    values = reinterpret_cast<const type**>(own.units2.data());
    if (CacheTraits<E>::packed) scratch = own.keys.need(size_t(2 * units + 1) * UNIT * map.head_ld);
  }
  // Reads the unit whose first slot has this position in sequence s as the u-th.
  void read(const R1Plan& plan, int s, int position, int u) {
    int block, offset;
    slot_of(plan, s, position, map.block_size, block, offset);
    if constexpr (CacheTraits<E>::packed) {
      const size_t size = size_t(UNIT) * map.head_ld;
      float* unit_keys = scratch + size_t(2 * u) * size;
      float* unit_values = unit_keys + size;
      float* rows = scratch + 2 * capacity * size;
      const float* at[UNIT];
      for (int i = 0; i < UNIT; i++) {
        at[i] = rows + size_t(i) * map.head_ld;
        E::get_row(cache + map.key(block, head, offset + i), map.l.head_dim, rows + size_t(i) * map.head_ld);
        E::get_row(cache + map.value(block, head, offset + i), map.l.head_dim, unit_values + size_t(i) * map.head_ld);
      }
      transpose_unit<F32>(at, UNIT, map.l.head_dim, unit_keys);
      keys[u] = unit_keys;
      values[u] = unit_values;
    } else {
      keys[u] = cache + map.unit(block, head, offset);
      values[u] = cache + map.value(block, head, offset);
    }
  }
};

// Pointers to the queries of positions [first, last) with key head g: position by position, head by head.
inline void gqa_queries(const Model& model, const Layer& layer, Scratch& own, int g, int first, int last) {
  const R1LayerShape& l = layer.shape;
  const int group = l.heads / l.kv_heads, ld = layer.input.width();
  own.pointers.resize((last - first) * group);
  for (int t = first; t < last; t++)
    for (int j = 0; j < group; j++)
      own.pointers[(t - first) * group + j] = model.input.data + size_t(t) * ld + (g * group + j) * l.head_dim;
}

// Writes the attention's result of positions from `first` on with key head g.
inline void gqa_result(Model& model, const Layer& layer, const FlashState& state, int g, int first) {
  const R1LayerShape& l = layer.shape;
  const int group = l.heads / l.kv_heads;
  for (int m = 0; m < state.rows; m++) {
    const float* out = state.out + size_t(m) * state.ldo;
    float* mixed = model.mixed.data + size_t(first + m / group) * layer.output_ld() + (g * group + m % group) * l.head_dim;
    const float factor = 1.0f / state.sum[m];
    for (int d = 0; d < l.head_dim; d++) mixed[d] = out[d] * factor;
  }
}

// Attention of positions [first, last) of sequence s with key head g over slots [from, to).
// `partial`: null, or where the undivided state of a single row's heads goes: [group][head_ld + 2].
template <class E>
inline void gqa_part(Model& model, Layer& layer, const R1Plan& plan, Scratch& own, int s, int g, int first, int last,
                     int from, int to, float* partial) {
  const R1LayerShape& l = layer.shape;
  const int group = l.heads / l.kv_heads, rows = (last - first) * group, head_ld = layer.head_ld();
  typedef typename GqaUnits<E>::element element;
  own.valid.resize(rows);
  gqa_queries(model, layer, own, g, first, last);
  FlashState state{rows, head_ld, own.out.need(size_t(rows) * head_ld), own.state.need(2 * rows), own.state.data + rows};
  state.clear();
  float* scores = own.scores.need(size_t(rows) * CHUNK);
  GqaUnits<E> units(model, layer, own, g, CHUNK / UNIT);
  for (int at = from; at < to; at += CHUNK) {
    const int slots = to - at < CHUNK ? to - at : CHUNK, count = ceil_div(slots, UNIT);
    for (int u = 0; u < count; u++) units.read(plan, s, at + u * UNIT, u);
    for (int m = 0; m < rows; m++) own.valid[m] = plan.positions[first + m / group] + 1 - at;
    score_units<element>(units.keys, count, own.pointers.data(), rows, l.head_dim, scores, CHUNK);
    soften(state, scores, CHUNK, slots, own.valid.data());
    add_values<element>(state, units.values, head_ld, slots, scores, CHUNK, head_ld);
  }
  if (!partial) return gqa_result(model, layer, state, g, first);
  for (int m = 0; m < rows; m++) {
    float* to_partial = partial + size_t(m) * (head_ld + 2);
    memcpy(to_partial, state.out + size_t(m) * head_ld, size_t(head_ld) * 4);
    to_partial[head_ld] = state.most[m];
    to_partial[head_ld + 1] = state.sum[m];
  }
}

}  // namespace r1
