// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) over a paged cache.
//
// A layer's cache is [slot]{latent [kv_lora]; rotary key [rope_dim]}; packed codecs keep the rotary key in
// bfloat16. Two equal computations:
//   absorbed: queries move into latent space, all heads share one key per slot. For few rows.
//   expanded: keys and values of a head are computed from the latents of each chunk. For many rows of one
//             sequence, where the expansion costs less than scores of latent width.
#pragma once
#include "attention_gqa.h"

namespace r1 {

// A layer's cache of latents: where a slot's row is, and its values.
template <class E>
struct LatentCache {
  typedef typename CacheTraits<E>::element element;

  const R1LayerShape& l;
  int dim, row_ld;  // values of a row; floats of a row that was read
  size_t row;       // elements of E of a row in the cache
  typename E::type* data;

  explicit LatentCache(const Layer& layer)
      : l(layer.shape), dim(layer.latent_dim()), data(reinterpret_cast<typename E::type*>(layer.cache.data())) {
    if constexpr (CacheTraits<E>::packed) {
      row = E::bytes(l.kv_lora) + 2 * size_t(l.rope_dim);
      row_ld = round_up(round_up(l.kv_lora, LANES) + l.rope_dim, LANES);
    } else {
      row = dim;
      row_ld = dim;
    }
  }
  typename E::type* at(int block, int block_size, int offset) const {
    return data + (size_t(block) * block_size + offset) * row;
  }
  void write(typename E::type* to, const float* entry) const {
    if constexpr (CacheTraits<E>::packed) {
      E::put_row(to, entry, l.kv_lora);
      to += E::bytes(l.kv_lora);
      for (int d = 0; d < l.rope_dim; d++) {
        const uint16_t h = float_to_bf16(entry[l.kv_lora + d]);
        memcpy(to + 2 * d, &h, 2);
      }
    } else {
      for (int d = 0; d < dim; d++) E::put(to + d, entry[d]);
    }
  }
  // `out` has room for row_ld floats; `dim` of them are the row's values.
  void read(const typename E::type* from, float* out) const {
    if constexpr (CacheTraits<E>::packed) {
      E::get_row(from, l.kv_lora, out);
      from += E::bytes(l.kv_lora);
      for (int d = 0; d < l.rope_dim; d++) {
        uint16_t h;
        memcpy(&h, from + 2 * d, 2);
        out[l.kv_lora + d] = bf16_to_float(h);
      }
    } else {
      for (int d = 0; d < dim; d++) out[d] = E::get(from + d);
    }
  }
};

// From this number of heads on, transposing a chunk costs less than horizontal sums. Heads and not rows
// decide, so that a row's result does not depend on the rows beside it.
constexpr int TRANSPOSE_HEADS = 24;

// Rows of one sequence from which the expanded form needs fewer multiplications.
inline int expanded_rows(const R1LayerShape& l) {
  const int absorbed = 2 * l.kv_lora + l.rope_dim, expanded = l.nope + l.rope_dim + l.v_dim;
  if (absorbed <= expanded) return 1 << 30;
  return ceil_div(l.kv_lora * (l.nope + l.v_dim), absorbed - expanded);
}

// The parts of an input row: q or q_a, then the latent, then the rotary key.
inline int latent_column(const Layer& layer) {
  return layer.shape.q_lora ? layer.shape.q_lora : layer.query_width();
}

// Norms latents, rotates the shared key and writes both to the cache, for rows [begin, end).
template <class E>
inline void mla_write(Model& model, Layer& layer, const R1Plan& plan, const int32_t* sequence_of, Scratch& own,
                      int begin, int end) {
  const R1LayerShape& l = layer.shape;
  const int ld = layer.input.width(), half = l.rope_dim / 2, dim = layer.latent_dim();
  float* entry = own.values.need(dim + LANES);
  const LatentCache<E> cache(layer);
  for (int t = begin; t < end; t++) {
    const float* latent = model.input.data + size_t(t) * ld + latent_column(layer);
    rms_norm(latent, layer.kv_a_norm.data(), l.inner_eps, l.kv_lora, entry);
    memcpy(entry + l.kv_lora, latent + l.kv_lora, size_t(l.rope_dim) * 4);
    rotate(entry + l.kv_lora, layer.cos_table + size_t(plan.positions[t]) * half,
           layer.sin_table + size_t(plan.positions[t]) * half, l.rope_dim, l.interleaved);
    int block, offset;
    slot_of(plan, sequence_of[t], plan.positions[t], model.shape.block_size, block, offset);
    cache.write(cache.at(block, model.shape.block_size, offset), entry);
  }
}

// Rotated and scaled rotary part of head h's query of row t.
inline void mla_rotary_query(const Layer& layer, const R1Plan& plan, int t, const float* query,
                             float* out) {
  const R1LayerShape& l = layer.shape;
  const int half = l.rope_dim / 2;
  memcpy(out, query + l.nope, size_t(l.rope_dim) * 4);
  rotate(out, layer.cos_table + size_t(plan.positions[t]) * half, layer.sin_table + size_t(plan.positions[t]) * half,
         l.rope_dim, l.interleaved);
  for (int d = 0; d < l.rope_dim; d++) out[d] *= l.softmax_scale;
}

inline const float* mla_query(const Model& model, const Layer& layer, int t, int h) {
  const bool low_rank = layer.shape.q_lora > 0;
  const float* rows = low_rank ? model.query.data : model.input.data;
  return rows + size_t(t) * (low_rank ? layer.q_b.width() : layer.input.width()) + h * layer.qk_dim();
}

// Products of rows with one head's part of W_UK or W_UV.
inline void head_product(const Matrix& m, int h, int head_ld, const float* const* x, int rows, Scratch& own, float* y,
                         int ldy) {
  own.second.x.assign(x, x + rows);
  own.second.q.resize(rows);
  if (m.integer()) {
    const size_t bytes = int_row_bytes(m.cols);
    uint8_t* ints = own.quantised[1].need(rows * bytes);
    for (int t = 0; t < rows; t++) {
      quantise_row(x[t], m.cols, ints + t * bytes);
      own.second.q[t] = int_row(ints + t * bytes, m.cols);
    }
  }
  const int panels = head_ld / LANES;
  multiply(m, h * panels, (h + 1) * panels, own.second, 0, rows, y, ldy);
}

// A head's output in latent space [kv_lora] to the layer's mixed rows.
inline void mla_to_value(Model& model, Layer& layer, Scratch& own, int t, int h, const float* latent) {
  const R1LayerShape& l = layer.shape;
  float* result = own.result.need(layer.value_ld());
  head_product(layer.to_value, h, layer.value_ld(), &latent, 1, own, result, layer.value_ld());
  memcpy(model.mixed.data + size_t(t) * layer.output_ld() + h * l.v_dim, result, size_t(l.v_dim) * 4);
}

// Queries of rows [first, last) and heads [h0, h1) in latent space, scaled and rotated: own.pointers.
inline void mla_queries(Model& model, Layer& layer, const R1Plan& plan, Scratch& own, int h0, int h1, int first, int last) {
  const R1LayerShape& l = layer.shape;
  const int heads = h1 - h0, rows = (last - first) * heads, key_ld = layer.key_ld();
  const int query_ld = key_ld + round_up(l.rope_dim, 8);
  float* queries = own.queries.need(size_t(rows) * query_ld);
  own.pointers.resize(rows);
  for (int h = h0; h < h1; h++) {
    for (int t = first; t < last; t += FLOAT_TILE) {
      const int some = last - t < FLOAT_TILE ? last - t : FLOAT_TILE;
      const float* x[FLOAT_TILE];
      for (int i = 0; i < some; i++) x[i] = mla_query(model, layer, t + i, h);
      float* y = queries + size_t((t - first) * heads + h - h0) * query_ld;
      head_product(layer.to_key, h, key_ld, x, some, own, y, heads * query_ld);
      for (int i = 0; i < some; i++) {
        float* q = y + size_t(i) * heads * query_ld;
        for (int d = 0; d < l.kv_lora; d++) q[d] *= l.softmax_scale;
        mla_rotary_query(layer, plan, t + i, x[i], q + l.kv_lora);
      }
    }
  }
  for (int m = 0; m < rows; m++) own.pointers[m] = queries + size_t(m) * query_ld;
}

// Attends to chunks of up to CHUNK slots, in latent space.
template <class E>
struct LatentChunks {
  typedef typename CacheTraits<E>::element element;
  typedef typename element::type type;

  const LatentCache<E> cache;
  const int block_size, key_ld;
  const bool transposed;
  float* units;
  float* rows;  // [CHUNK][row_ld], of packed codecs
  float* scores;
  const type** slots_at;
  const type** values;

  LatentChunks(const Model& model, const Layer& layer, Scratch& own, int queries)
      : cache(layer), block_size(model.shape.block_size), key_ld(layer.key_ld()),
        transposed(layer.shape.heads >= TRANSPOSE_HEADS) {
    // Columns from kv_lora to key_ld are the rotary key, or the next slot: computed and not used.
    const size_t unit_floats = transposed ? size_t(CHUNK) * cache.dim : 0;
    const size_t row_floats = CacheTraits<E>::packed ? size_t(CHUNK) * cache.row_ld + 2 * LANES : 0;
    units = own.keys.need(unit_floats + row_floats + 1);
    rows = units + unit_floats;
    scores = own.scores.need(size_t(queries) * CHUNK);
    own.units.resize(CHUNK);
    own.units2.resize(CHUNK / UNIT);
    slots_at = reinterpret_cast<const type**>(own.units.data());
    values = reinterpret_cast<const type**>(own.units2.data());
  }
  // Reads `count` (at most 16) slots from a position of sequence s on as slots [i, i + count) of the chunk.
  void read(const R1Plan& plan, int s, int position, int count, int i) {
    int block, offset;
    slot_of(plan, s, position, block_size, block, offset);
    for (int j = 0; j < count; j++) {
      const typename E::type* at = cache.at(block, block_size, offset + j);
      if constexpr (CacheTraits<E>::packed) {
        slots_at[i + j] = rows + size_t(i + j) * cache.row_ld;
        cache.read(at, rows + size_t(i + j) * cache.row_ld);
      } else {
        slots_at[i + j] = at;
      }
    }
    values[i / UNIT] = slots_at[i];
  }
  void attend(FlashState& state, Scratch& own, int slots) {
    const int dim = cache.dim;
    if (transposed) {
      const float* keys[CHUNK / UNIT];
      for (int u = 0; u * UNIT < slots; u++) {
        float* unit = units + size_t(u) * UNIT * dim;
        transpose_unit<element>(slots_at + u * UNIT, slots - u * UNIT < UNIT ? slots - u * UNIT : UNIT, dim, unit);
        keys[u] = unit;
      }
      score_units<F32>(keys, ceil_div(slots, UNIT), own.pointers.data(), state.rows, dim, scores, CHUNK);
    } else {
      dot_scores<element>(slots_at, slots, own.pointers.data(), state.rows, dim, scores, CHUNK);
    }
    soften(state, scores, CHUNK, slots, own.valid.data());
    add_values<element>(state, values, cache.row_ld, slots, scores, CHUNK, key_ld);
  }
};

// Divides the states of rows from `first` on, heads from h0 on, and applies W_UV.
inline void mla_result(Model& model, Layer& layer, Scratch& own, FlashState& state, int h0, int heads, int first) {
  for (int m = 0; m < state.rows; m++) {
    float* out = state.out + size_t(m) * state.ldo;
    const float factor = 1.0f / state.sum[m];
    for (int d = 0; d < layer.shape.kv_lora; d++) out[d] *= factor;
    mla_to_value(model, layer, own, first + m / heads, h0 + m % heads, out);
  }
}

// Absorbed attention of rows [first, last) of sequence s, heads [h0, h1), slots [from, to).
// `partial`: null, or where the undivided state of a single row goes: [heads][key_ld + 2].
template <class E>
inline void mla_part(Model& model, Layer& layer, const R1Plan& plan, Scratch& own, int s, int h0, int h1, int first,
                     int last, int from, int to, float* partial) {
  const int heads = h1 - h0, rows = (last - first) * heads, key_ld = layer.key_ld();
  own.valid.resize(rows);
  mla_queries(model, layer, plan, own, h0, h1, first, last);
  FlashState state{rows, key_ld, own.out.need(size_t(rows) * key_ld), own.state.need(2 * rows), own.state.data + rows};
  state.clear();
  LatentChunks<E> chunks(model, layer, own, rows);
  for (int at = from; at < to; at += CHUNK) {
    const int slots = to - at < CHUNK ? to - at : CHUNK;
    for (int i = 0; i < slots; i += UNIT) chunks.read(plan, s, at + i, slots - i < UNIT ? slots - i : UNIT, i);
    for (int m = 0; m < rows; m++) own.valid[m] = plan.positions[first + m / heads] + 1 - at;
    chunks.attend(state, own, slots);
  }
  if (!partial) return mla_result(model, layer, own, state, h0, heads, first);
  for (int m = 0; m < rows; m++) {
    float* to_partial = partial + size_t(m) * (key_ld + 2);
    memcpy(to_partial, state.out + size_t(m) * key_ld, size_t(key_ld) * 4);
    to_partial[key_ld] = state.most[m];
    to_partial[key_ld + 1] = state.sum[m];
  }
}

// Expanded attention of rows [first, last) of sequence s with head h over slots [0, to).
template <class E>
inline void mla_expanded(Model& model, Layer& layer, const R1Plan& plan, Scratch& own, int s, int h, int first, int last,
                         int to) {
  const R1LayerShape& l = layer.shape;
  const int rows = last - first, dim = layer.latent_dim(), qk = layer.qk_dim(), key_ld = layer.key_ld();
  const int value_ld = layer.value_ld();
  float* queries = own.queries.need(size_t(rows) * qk);
  own.pointers.resize(rows);
  own.valid.resize(rows);
  for (int t = first; t < last; t++) {
    float* q = queries + size_t(t - first) * qk;
    const float* from = mla_query(model, layer, t, h);
    for (int d = 0; d < l.nope; d++) q[d] = from[d] * l.softmax_scale;
    mla_rotary_query(layer, plan, t, from, q + l.nope);
    own.pointers[t - first] = q;
  }
  FlashState state{rows, value_ld, own.out.need(size_t(rows) * value_ld), own.state.need(2 * rows), own.state.data + rows};
  state.clear();
  float* scores = own.scores.need(size_t(rows) * CHUNK);
  // Per chunk: latents transposed [dim][16], latents as rows [16][row_ld], keys [qk][16], values [16][value_ld].
  const LatentCache<E> cache(layer);
  const int row_ld = cache.row_ld;
  const size_t unit_floats = size_t(UNIT) * (dim + row_ld + qk + value_ld);
  float* units = own.keys.need(CHUNK / UNIT * unit_floats + size_t(l.nope) * (key_ld + 1));
  float* to_key = units + CHUNK / UNIT * unit_floats;  // this head's W_UK as floats [nope][key_ld]
  float* column = to_key + size_t(l.nope) * key_ld;
  for (int c = 0; c < l.kv_lora; c++) {
    unpack_row(layer.to_key, h * key_ld + c, column);
    for (int d = 0; d < l.nope; d++) to_key[size_t(d) * key_ld + c] = column[d];
  }
  for (int at = 0; at < to; at += CHUNK) {
    const int slots = to - at < CHUNK ? to - at : CHUNK;
    const float* keys[CHUNK / UNIT];
    const float* values[CHUNK / UNIT];
    for (int u = 0; u * UNIT < slots; u++) {
      const int count = slots - u * UNIT < UNIT ? slots - u * UNIT : UNIT;
      float* latent_t = units + u * unit_floats;
      float* latent = latent_t + UNIT * dim;
      float* key = latent + UNIT * row_ld;
      float* value = key + UNIT * qk;
      const float* rows_of[UNIT];
      for (int i = 0; i < UNIT; i++) {
        float* copy = latent + size_t(i) * row_ld;
        rows_of[i] = copy;
        if (i >= count) {
          memset(copy, 0, size_t(dim) * 4);
          continue;
        }
        int block, offset;
        slot_of(plan, s, at + u * UNIT + i, model.shape.block_size, block, offset);
        cache.read(cache.at(block, model.shape.block_size, offset), copy);
      }
      transpose_unit<F32>(rows_of, count, dim, latent_t);
      for (int d = 0; d < l.nope; d += FLOAT_TILE) {
        const int some = l.nope - d < FLOAT_TILE ? l.nope - d : FLOAT_TILE;
        const float* x[FLOAT_TILE];
        for (int i = 0; i < some; i++) x[i] = to_key + size_t(d + i) * key_ld;
        float_few<F32>(latent_t, 0, UNIT, 1, x, some, l.kv_lora, key + size_t(d) * UNIT, UNIT, true);
      }
      memcpy(key + size_t(l.nope) * UNIT, latent_t + size_t(l.kv_lora) * UNIT, size_t(l.rope_dim) * UNIT * 4);
      head_product(layer.to_value, h, value_ld, rows_of, UNIT, own, value, value_ld);
      keys[u] = key;
      values[u] = value;
    }
    for (int m = 0; m < rows; m++) own.valid[m] = plan.positions[first + m] + 1 - at;
    score_units<F32>(keys, ceil_div(slots, UNIT), own.pointers.data(), rows, qk, scores, CHUNK);
    soften(state, scores, CHUNK, slots, own.valid.data());
    add_values<F32>(state, values, value_ld, slots, scores, CHUNK, value_ld);
  }
  for (int m = 0; m < rows; m++) {
    float* mixed = model.mixed.data + size_t(first + m) * layer.output_ld() + h * l.v_dim;
    const float* out = state.out + size_t(m) * value_ld;
    const float factor = 1.0f / state.sum[m];
    for (int d = 0; d < l.v_dim; d++) mixed[d] = out[d] * factor;
  }
}

}  // namespace r1
