// Attention that reads a selection of the cache units and estimates the others from their summaries.
//
// A unit of 16 slots has a summary: the mean of its keys and the mean of its values (one mean of both for
// latents). Coarse scores over the mean keys choose the units (sparsity.h). A unit that is not read counts
// as 16 slots with the mean key and the mean value.
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

// Summaries of a layer: [block][key head][unit of the block]{mean key [key_ld]}, then the same of values.
template <class S>
struct Summaries {
  int heads, units_per_block, key_ld, value_ld;
  typename S::type* keys;
  typename S::type* values;

  Summaries(const Model& model, const Layer& layer) {
    const R1LayerShape& l = layer.shape;
    heads = l.latent ? 1 : l.kv_heads;
    units_per_block = model.shape.block_size / UNIT;
    key_ld = l.latent ? round_up(layer.latent_dim(), LANES) + LANES : layer.head_ld();
    value_ld = key_ld;
    keys = reinterpret_cast<typename S::type*>(layer.summary.data());
    values = l.latent ? keys : keys + size_t(model.shape.blocks) * heads * units_per_block * key_ld;
  }
  size_t at(int block, int head, int unit) const {
    return ((size_t(block) * heads + head) * units_per_block + unit) * key_ld;
  }
};

inline size_t summary_bytes(const Model& model, const Layer& layer) {
  const bool floats = model.shape.cache_type == CACHE_F32, latent = layer.shape.latent;
  const Summaries<F32> map(model, layer);
  const size_t rows = size_t(model.shape.blocks) * map.heads * map.units_per_block * (latent ? 1 : 2);
  return rows * map.key_ld * (floats ? 4 : 2) + 64;
}

// Writes the summaries of a unit whose 16 slots are all in the cache.
template <class E>
inline void write_summary(Model& model, Layer& layer, const R1Plan& plan, Scratch& own, int s, int unit) {
  typedef typename CacheTraits<E>::summary S;
  const R1LayerShape& l = layer.shape;
  const Summaries<S> map(model, layer);
  int block, offset;
  slot_of(plan, s, unit * UNIT, model.shape.block_size, block, offset);
  auto put_mean = [&](const float* sum, int width, typename S::type* to) {
    for (int d = 0; d < map.key_ld; d++) S::put(to + d, d < width ? sum[d] * (1.0f / UNIT) : 0.0f);
  };
  float* sum = own.result.need(2 * map.key_ld);
  if (l.latent) {
    const LatentCache<E> cache(layer);
    float* row = own.values.need(cache.row_ld + 2 * LANES);
    memset(sum, 0, size_t(map.key_ld) * 4);
    for (int i = 0; i < UNIT; i++) {
      cache.read(cache.at(block, model.shape.block_size, offset + i), row);
      for (int d = 0; d < cache.dim; d++) sum[d] += row[d];
    }
    return put_mean(sum, cache.dim, map.keys + map.at(block, 0, offset / UNIT));
  }
  typedef typename GqaUnits<E>::element element;
  for (int g = 0; g < l.kv_heads; g++) {
    GqaUnits<E> units(model, layer, own, g, 1);
    units.read(plan, s, unit * UNIT, 0);
    float* value_sum = sum + map.key_ld;
    memset(sum, 0, size_t(2 * map.key_ld) * 4);
    for (int i = 0; i < UNIT; i++)
      for (int d = 0; d < l.head_dim; d++) {
        sum[d] += element::get(units.keys[0] + size_t(d) * UNIT + i);
        value_sum[d] += element::get(units.values[0] + size_t(i) * map.value_ld + d);
      }
    put_mean(sum, l.head_dim, map.keys + map.at(block, g, offset / UNIT));
    put_mean(value_sum, l.head_dim, map.values + map.at(block, g, offset / UNIT));
  }
}

// What a tile reads: `units`, ascending, and the estimates of the candidates that it does not read.
struct Selection {
  int candidates_from, candidates;  // units [from, from + count) were scored
  int ld;                           // of the estimates [rows][ld]: logarithm of a unit's mass
  float* estimates;
  bool estimated;  // dropped units count by their estimates
};

// Chooses the units of a tile whose scaled queries are own.pointers; fills own.chosen_units.
template <class S>
inline Selection select_tile(const Model& model, const Layer& layer, const R1Plan& plan, Scratch& own, int s, int head,
                             int rows, int dim, int first_position, int last_position, HeadMode mode) {
  const R1Sparsity& o = model.sparsity.options;
  const int last_units = mode == HEAD_WINDOW ? o.window_units : o.last_units;
  const int from = o.sink_units, until = std::max(from, first_position / UNIT - last_units + 1), count = until - from;
  Selection out{from, count, round_up(count, CHUNK), nullptr, mode == HEAD_SPARSE && o.correct && count > 0};
  own.chosen.assign(count, 0);
  if (mode == HEAD_SPARSE && count > 0) {
    const Summaries<S> map(model, layer);
    own.summary_rows.resize(count);
    auto keys = reinterpret_cast<const typename S::type**>(own.summary_rows.data());
    for (int u = 0; u < count; u++) {
      int block, offset;
      slot_of(plan, s, (from + u) * UNIT, model.shape.block_size, block, offset);
      keys[u] = map.keys + map.at(block, head, offset / UNIT);
    }
    float* estimates = out.estimates = own.estimates.need(size_t(rows + 1) * out.ld);
    float* mass = estimates + size_t(rows) * out.ld;
    dot_scores<S>(keys, count, own.pointers.data(), rows, dim, estimates, out.ld);
    const int padded = round_up(count, 8);
    memset(mass, 0, size_t(padded) * 4);
    for (int m = 0; m < rows; m++) {
      float* e = estimates + size_t(m) * out.ld;
      for (int u = count; u < padded; u++) e[u] = -INFINITY;
      v8 peak = load8(e);
      for (int u = 8; u < padded; u += 8) peak = max8(peak, load8(e + u));
      const float most = largest8(peak);
      v8 total = splat(0.0f);
      for (int u = 0; u < padded; u += 8) total += exp8(load8(e + u) - most);
      const float shift = most + std::log(sum8(total));
      for (int u = 0; u < padded; u += 8) {
        const v8 x = load8(e + u);
        store8(mass + u, max8(load8(mass + u), exp8(x - shift)));
        store8(e + u, x + 2.7725887222397811f);  // log(16)
      }
    }
    select_units(o, mass, count, own.ranked, own.chosen.data());
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

// Adds the dropped candidates to the state, each as 16 slots with the unit's mean key and mean value.
template <class S>
inline void add_dropped(const Model& model, const Layer& layer, const R1Plan& plan, Scratch& own, int s, int head,
                        FlashState& state, const Selection& chosen) {
  const Summaries<S> map(model, layer);
  const int ld = map.value_ld;
  float* rows = own.values.need(size_t(CHUNK) * ld);
  own.valid.assign(state.rows, CHUNK);
  for (int at = 0; at < chosen.candidates; at += CHUNK) {
    const int count = std::min(CHUNK, chosen.candidates - at);
    const float* values[CHUNK / UNIT];
    for (int u = 0; u < count; u++) {
      if (u % UNIT == 0) values[u / UNIT] = rows + size_t(u) * ld;
      int block, offset;
      slot_of(plan, s, (chosen.candidates_from + at + u) * UNIT, model.shape.block_size, block, offset);
      const typename S::type* from = map.values + map.at(block, head, offset / UNIT);
      for (int d = 0; d < ld; d += 8) store8(rows + size_t(u) * ld + d, S::load(from + d));
      if (own.chosen[at + u])
        for (int m = 0; m < state.rows; m++) chosen.estimates[size_t(m) * chosen.ld + at + u] = -INFINITY;
    }
    soften(state, chosen.estimates + at, chosen.ld, count, own.valid.data());
    add_values<F32>(state, values, ld, count, chosen.estimates + at, chosen.ld, state.ldo);
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
  if (chosen.estimated) add_dropped<S>(model, layer, plan, own, s, g, state, chosen);
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
  if (chosen.estimated) add_dropped<S>(model, layer, plan, own, s, 0, state, chosen);
  mla_result(model, layer, own, state, h0, heads, first);
}

}  // namespace r1
