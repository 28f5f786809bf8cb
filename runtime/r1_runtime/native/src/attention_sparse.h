// Attention that reads a selection of the cache units and, if wanted, estimates the others.
//
// A unit of 16 slots has a summary: per channel the mean and half of the range of its keys, and the mean of
// its values (latents are keys and values in one). Coarse scores, query * mean + spread * |query| * range / 2,
// choose the units (sparsity.h). With the correction, a unit that is not read counts as 16 slots with the
// mean key and the mean value.
//
// Rows that attend together are the positions of one aligned tile of a prompt, or one generated token, with
// the query heads of one key head: what a row reads depends neither on the batch nor on the threads.
#pragma once
#include "attention_mla.h"

namespace r1 {

constexpr int TILE_ROWS = 64;

// Positions of an aligned tile of a prompt: a power of two that divides a unit.
inline int tile_positions(int heads_per_key) {
  int positions = UNIT;
  while (positions > 1 && positions * heads_per_key > TILE_ROWS) positions /= 2;
  return positions;
}

// Summaries of a layer: [key head][block][unit of the block]{mean [ld]; half range [ld]} of keys, then the means
// of values in the same order.
template <class S>
struct Summaries {
  int heads, blocks, units_per_block, ld;
  typename S::type* keys;
  typename S::type* values;  // of latents: the mean keys
  int value_step;            // elements between the values of two units

  Summaries(const Model& model, const Layer& layer) {
    const R1LayerShape& l = layer.shape;
    heads = l.latent ? 1 : l.kv_heads;
    blocks = model.shape.blocks;
    units_per_block = model.shape.block_size / UNIT;
    ld = l.latent ? round_up(layer.latent_dim(), LANES) + LANES : layer.head_ld();
    keys = reinterpret_cast<typename S::type*>(layer.summary.data());
    values = l.latent ? keys : keys + 2 * units() * ld;
    value_step = l.latent ? 2 * ld : ld;
  }
  size_t units() const { return size_t(heads) * blocks * units_per_block; }
  size_t index(int block, int head, int unit) const { return (size_t(head) * blocks + block) * units_per_block + unit; }
  typename S::type* key(size_t index) const { return keys + index * 2 * ld; }
  typename S::type* value(size_t index) const { return values + index * value_step; }
};

inline size_t summary_bytes(const Model& model, const Layer& layer) {
  const bool floats = model.shape.cache_type == CACHE_F32, latent = layer.shape.latent;
  const Summaries<F32> map(model, layer);
  const size_t rows = map.units() * (latent || !model.sparsity.values ? 2 : 3);
  return rows * map.ld * (floats ? 4 : 2) + 64;
}

// Writes the summaries of a unit whose 16 slots are all in the cache.
template <class E>
inline void write_summary(Model& model, Layer& layer, const R1Plan& plan, Scratch& own, int s, int unit) {
  typedef typename CacheTraits<E>::summary S;
  const R1LayerShape& l = layer.shape;
  const Summaries<S> map(model, layer);
  int block, offset;
  slot_of(plan, s, unit * UNIT, model.shape.block_size, block, offset);
  auto put = [&](const float* from, int width, float factor, typename S::type* to) {
    for (int d = 0; d < map.ld; d++) S::put(to + d, d < width ? from[d] * factor : 0.0f);
  };
  float* sum = own.result.need(4 * map.ld);
  float *low = sum + map.ld, *high = low + map.ld, *value_sum = high + map.ld;
  auto clear = [&] {
    for (int d = 0; d < map.ld; d++) sum[d] = value_sum[d] = 0, low[d] = INFINITY, high[d] = -INFINITY;
  };
  auto add_key = [&](int d, float x) {
    sum[d] += x;
    low[d] = x < low[d] ? x : low[d];
    high[d] = x > high[d] ? x : high[d];
  };
  auto put_key = [&](int width, typename S::type* to) {
    for (int d = 0; d < width; d++) high[d] -= low[d];
    put(sum, width, 1.0f / UNIT, to);
    put(high, width, 0.5f, to + map.ld);
  };
  if (l.latent) {
    const LatentCache<E> cache(layer);
    float* row = own.values.need(cache.row_ld + 2 * LANES);
    clear();
    for (int i = 0; i < UNIT; i++) {
      cache.read(cache.at(block, model.shape.block_size, offset + i), row);
      for (int d = 0; d < cache.dim; d++) add_key(d, row[d]);
    }
    return put_key(cache.dim, map.key(map.index(block, 0, offset / UNIT)));
  }
  typedef typename GqaUnits<E>::element element;
  for (int g = 0; g < l.kv_heads; g++) {
    GqaUnits<E> units(model, layer, own, g, 1);
    units.read(plan, s, unit * UNIT, 0);
    clear();
    for (int d = 0; d < l.head_dim; d++)
      for (int i = 0; i < UNIT; i++) add_key(d, element::get(units.keys[0] + size_t(d) * UNIT + i));
    put_key(l.head_dim, map.key(map.index(block, g, offset / UNIT)));
    if (!model.sparsity.values) continue;
    for (int i = 0; i < UNIT; i++)
      for (int d = 0; d < l.head_dim; d++) value_sum[d] += element::get(units.values[0] + size_t(i) * layer.head_ld() + d);
    put(value_sum, l.head_dim, 1.0f / UNIT, map.value(map.index(block, g, offset / UNIT)));
  }
}

// What a tile reads is in own.chosen_units, ascending; this is what it does not read.
struct Selection {
  int candidates;    // units that were scored, from the sinks on
  int ld;            // of the estimates
  float* estimates;  // [rows][ld] logarithm of a candidate's mass, or null
};

// Rows from which scores of a transposed chunk cost less than dot products.
constexpr int TRANSPOSE_ROWS = 16;

// Scores of summaries; see dot_scores.
template <class S>
inline void coarse_scores(const typename S::type* const* keys, int count, Scratch& own, const float* const* queries, int rows,
                          int dim, float* scores, int ld) {
  if (rows < TRANSPOSE_ROWS) return dot_scores<S>(keys, count, queries, rows, dim, scores, ld);
  float* units = own.keys.need(size_t(CHUNK) * dim);
  for (int at = 0; at < count; at += CHUNK) {
    const int some = std::min(CHUNK, count - at);
    const float* transposed[CHUNK / UNIT];
    for (int u = 0; u * UNIT < some; u++) {
      float* unit = units + size_t(u) * UNIT * dim;
      transpose_unit<S>(keys + at + u * UNIT, std::min(UNIT, some - u * UNIT), dim, unit);
      transposed[u] = unit;
    }
    score_units<F32>(transposed, ceil_div(some, UNIT), queries, rows, dim, scores + at, ld);
  }
}

// Coarse mass [count] of the candidates: the largest share that one of the rows gives. `scores` [rows][ld].
inline void coarse_mass(float* scores, int ld, int rows, int count, float* mass) {
  const int padded = round_up(count, 8);
  memset(mass, 0, size_t(padded) * 4);
  for (int m = 0; m < rows; m++) {
    float* e = scores + size_t(m) * ld;
    for (int u = count; u < padded; u++) e[u] = -INFINITY;
    v8 peak = load8(e);
    for (int u = 8; u < padded; u += 8) peak = max8(peak, load8(e + u));
    const float most = largest8(peak);
    v8 total = splat(0.0f);
    for (int u = 0; u < padded; u += 8) {
      const v8 p = exp8(load8(e + u) - most);
      total += p;
      store8(e + u, p);
    }
    const float factor = 1.0f / sum8(total);
    for (int u = 0; u < padded; u += 8) store8(mass + u, max8(load8(mass + u), load8(e + u) * factor));
  }
}

// Chooses the units of a tile whose scaled queries are own.pointers; fills own.chosen_units.
template <class S>
inline Selection select_tile(const Model& model, const Layer& layer, const R1Plan& plan, Scratch& own, int s, int head,
                             int rows, int dim, int first_position, int last_position, HeadMode mode) {
  const R1Sparsity& o = model.sparsity.options;
  const int last_units = mode == HEAD_WINDOW ? o.window_units : o.last_units;
  const int from = o.sink_units, until = std::max(from, first_position / UNIT - last_units + 1), count = until - from;
  Selection out{count, round_up(count, CHUNK), nullptr};
  own.chosen.assign(count, 0);
  if (mode == HEAD_SPARSE && count > 0) {
    const Summaries<S> map(model, layer);
    const bool correct = o.correct && model.sparsity.values;
    own.summary_index.resize(count);
    own.summary_rows.resize(count);
    auto keys = reinterpret_cast<const typename S::type**>(own.summary_rows.data());
    for (int u = 0; u < count; u++) {
      const int unit = from + u, block = plan.blocks[plan.block_starts[s] + unit / map.units_per_block];
      own.summary_index[u] = map.index(block, head, unit % map.units_per_block);
      keys[u] = map.key(own.summary_index[u]);
    }
    // Queries for {mean; half range}: {query; spread * |query|}.
    float* both = own.coarse_queries.need(size_t(rows) * 2 * map.ld);
    own.coarse_pointers.resize(rows);
    for (int m = 0; m < rows; m++) {
      float* q = both + size_t(m) * 2 * map.ld;
      memset(q, 0, size_t(2) * map.ld * 4);
      for (int d = 0; d < dim; d++) {
        q[d] = own.pointers[m][d];
        q[map.ld + d] = float(o.spread) * std::fabs(q[d]);
      }
      own.coarse_pointers[m] = q;
    }
    float* scores = own.estimates.need(size_t(2 * rows + 1) * out.ld);
    float* mass = scores + size_t(rows) * out.ld;
    coarse_scores<S>(keys, count, own, own.coarse_pointers.data(), rows, 2 * map.ld, scores, out.ld);
    coarse_mass(scores, out.ld, rows, count, mass);
    select_units(o, mass, count, own.ranked, own.chosen.data());
    if (correct) {
      out.estimates = mass + out.ld;
      coarse_scores<S>(keys, count, own, own.coarse_pointers.data(), rows, map.ld, out.estimates, out.ld);
      for (int m = 0; m < rows; m++)
        for (int u = 0; u < count; u++) {
          float& e = out.estimates[size_t(m) * out.ld + u];
          e = own.chosen[u] ? -INFINITY : e + 2.7725887222397811f;  // log(16)
        }
    }
  }
  own.chosen_units.clear();
  for (int u = 0; u < std::min(from, last_position / UNIT + 1); u++) own.chosen_units.push_back(u);
  for (int u = 0; u < count; u++)
    if (own.chosen[u]) own.chosen_units.push_back(from + u);
  for (int u = until; u <= last_position / UNIT; u++) own.chosen_units.push_back(u);
  own.read_slots += int64_t(own.chosen_units.size()) * UNIT * rows;
  own.context_slots += int64_t(last_position / UNIT + 1) * UNIT * rows;
  return out;
}

// Slots of the chosen units [at, at + count) that a row at `position` sees. Units that it sees in part, or
// not at all, are the last ones of the list.
inline int visible_slots(const Scratch& own, int at, int count, int position) {
  int slots = 0;
  for (int u = at; u < at + count; u++) slots += std::max(0, std::min(UNIT, position + 1 - own.chosen_units[u] * UNIT));
  return slots;
}

// Adds the candidates that were not read to the state, each as 16 slots with the unit's mean key and value.
template <class S>
inline void add_estimates(const Model& model, const Layer& layer, Scratch& own, FlashState& state, const Selection& chosen) {
  const Summaries<S> map(model, layer);
  const bool many = state.rows >= TRANSPOSE_ROWS;
  float* rows = many ? own.values.need(size_t(CHUNK) * map.ld) : nullptr;
  own.valid.assign(state.rows, CHUNK);
  for (int at = 0; at < chosen.candidates; at += CHUNK) {
    const int count = std::min(CHUNK, chosen.candidates - at);
    const typename S::type* at_row[CHUNK];
    for (int u = 0; u < count; u++) at_row[u] = map.value(own.summary_index[at + u]);
    soften(state, chosen.estimates + at, chosen.ld, count, own.valid.data());
    if (!many) {
      add_rows<S>(state, at_row, count, chosen.estimates + at, chosen.ld, state.ldo);
      continue;
    }
    const float* values[CHUNK / UNIT];
    for (int u = 0; u < count; u++) {
      if (u % UNIT == 0) values[u / UNIT] = rows + size_t(u) * map.ld;
      for (int d = 0; d < map.ld; d += 8) store8(rows + size_t(u) * map.ld + d, S::load(at_row[u] + d));
    }
    add_values<F32>(state, values, map.ld, count, chosen.estimates + at, chosen.ld, state.ldo);
  }
}

inline HeadMode head_mode(const Model& model, const Layer& layer, int head) {
  const int heads = layer.shape.latent ? 1 : layer.shape.kv_heads;
  return HeadMode(model.sparsity.modes[size_t(layer.index) * heads + head]);
}

// Grouped-query attention of a tile: positions [first, last) of sequence s with key head g.
template <class E>
inline void gqa_sparse(Model& model, Layer& layer, const R1Plan& plan, Scratch& own, int s, int g, int first, int last) {
  typedef typename CacheTraits<E>::summary S;
  const R1LayerShape& l = layer.shape;
  const HeadMode mode = head_mode(model, layer, g);
  const int from = plan.positions[first], to = plan.positions[last - 1];
  if (mode == HEAD_DENSE) {
    const int64_t slots = int64_t(last - first) * (l.heads / l.kv_heads) * (to + 1);
    own.read_slots += slots;
    own.context_slots += slots;
    return gqa_part<E>(model, layer, plan, own, s, g, first, last, 0, to + 1, nullptr);
  }
  const int group = l.heads / l.kv_heads, rows = (last - first) * group, head_ld = layer.head_ld();
  typedef typename GqaUnits<E>::element element;
  gqa_queries(model, layer, own, g, first, last);
  const Selection chosen = select_tile<S>(model, layer, plan, own, s, g, rows, l.head_dim, from, to, mode);
  FlashState state{rows, head_ld, own.out.need(size_t(rows) * head_ld), own.state.need(2 * rows), own.state.data + rows};
  state.clear();
  own.valid.resize(rows);
  float* scores = own.scores.need(size_t(rows) * CHUNK);
  GqaUnits<E> units(model, layer, own, g, CHUNK / UNIT);
  const int total = int(own.chosen_units.size());
  for (int at = 0; at < total; at += CHUNK / UNIT) {
    const int count = std::min(CHUNK / UNIT, total - at), slots = visible_slots(own, at, count, to);
    for (int u = 0; u < count; u++) units.read(plan, s, own.chosen_units[at + u] * UNIT, u);
    for (int m = 0; m < rows; m++) own.valid[m] = visible_slots(own, at, count, plan.positions[first + m / group]);
    score_units<element>(units.keys, count, own.pointers.data(), rows, l.head_dim, scores, CHUNK);
    soften(state, scores, CHUNK, slots, own.valid.data());
    add_values<element>(state, units.values, head_ld, slots, scores, CHUNK, head_ld);
  }
  if (chosen.estimates) add_estimates<S>(model, layer, own, state, chosen);
  gqa_result(model, layer, state, g, first);
}

// Absorbed latent attention of a tile with heads [h0, h1).
template <class E>
inline void mla_sparse(Model& model, Layer& layer, const R1Plan& plan, Scratch& own, int s, int h0, int h1, int first,
                       int last) {
  typedef typename CacheTraits<E>::summary S;
  const HeadMode mode = head_mode(model, layer, 0);
  const int from = plan.positions[first], to = plan.positions[last - 1];
  const int heads = h1 - h0, rows = (last - first) * heads, key_ld = layer.key_ld();
  if (mode == HEAD_DENSE) {
    own.read_slots += int64_t(rows) * (to + 1);
    own.context_slots += int64_t(rows) * (to + 1);
    return mla_part<E>(model, layer, plan, own, s, h0, h1, first, last, 0, to + 1, nullptr);
  }
  mla_queries(model, layer, plan, own, h0, h1, first, last);
  const Selection chosen =
      select_tile<S>(model, layer, plan, own, s, 0, rows, layer.latent_dim(), from, to, mode);
  FlashState state{rows, key_ld, own.out.need(size_t(rows) * key_ld), own.state.need(2 * rows), own.state.data + rows};
  state.clear();
  own.valid.resize(rows);
  LatentChunks<E> chunks(model, layer, own, rows);
  const int total = int(own.chosen_units.size());
  for (int at = 0; at < total; at += CHUNK / UNIT) {
    const int count = std::min(CHUNK / UNIT, total - at), slots = visible_slots(own, at, count, to);
    for (int u = 0; u < count; u++)
      chunks.read(plan, s, own.chosen_units[at + u] * UNIT, std::min(UNIT, slots - u * UNIT), u * UNIT);
    for (int m = 0; m < rows; m++) own.valid[m] = visible_slots(own, at, count, plan.positions[first + m / heads]);
    chunks.attend(state, own, slots);
  }
  if (chosen.estimates) add_estimates<S>(model, layer, own, state, chosen);
  mla_result(model, layer, own, state, h0, heads, first);
}

}  // namespace r1
