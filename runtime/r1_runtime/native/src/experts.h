// Mixture of experts: routing, then two phases over (expert, part of its panels).
//
// Weights are read in place and never gathered per token; the rows of an expert are pointers.
#pragma once
#include "rows.h"

namespace r1 {

// Chooses the experts of one row from its router logits (DeepSeek-V3, arXiv 2412.19437, 2.1.2; V2,
// arXiv 2405.04434, 2.2.3). Ties go to the lower number. Returns their number, at most gate.limit(layer).
inline int route(const Layer& layer, const ExpertGate& gate, const float* logits, Scratch& own, int32_t* chosen, float* weights) {
  const R1LayerShape& l = layer.shape;
  own.score.resize(l.experts);
  own.choice.resize(l.experts);
  own.open.assign(l.experts, 1);
  float* score = own.score.data();
  float* choice = own.choice.data();
  if (l.softmax_scores) {
    float most = -INFINITY, total = 0;
    for (int e = 0; e < l.experts; e++) most = logits[e] > most ? logits[e] : most;
    for (int e = 0; e < l.experts; e++) total += score[e] = std::exp(logits[e] - most);
    for (int e = 0; e < l.experts; e++) score[e] /= total;
  } else {
    for (int e = 0; e < l.experts; e++) score[e] = 1.0f / (1.0f + std::exp(-logits[e]));
  }
  for (int e = 0; e < l.experts; e++) choice[e] = score[e] + (layer.correction.empty() ? 0.0f : layer.correction[e]);
  if (l.top_groups < l.groups) {
    const int size = l.experts / l.groups;
    std::vector<float> group(l.groups);
    for (int g = 0; g < l.groups; g++) {
      float first = -INFINITY, second = -INFINITY;
      for (int e = g * size; e < (g + 1) * size; e++) {
        if (choice[e] > first) second = first, first = choice[e];
        else if (choice[e] > second) second = choice[e];
      }
      group[g] = l.group_maximum ? first : first + second;
    }
    std::vector<char> open(l.groups, 0);
    for (int i = 0; i < l.top_groups; i++) {
      int best = -1;
      for (int g = 0; g < l.groups; g++)
        if (!open[g] && (best < 0 || group[g] > group[best])) best = g;
      open[best] = 1;
    }
    for (int e = 0; e < l.experts; e++) own.open[e] = open[e / size];
  }
  float mass = 0, total = 0;
  for (int e = 0; e < l.experts; e++)
    if (own.open[e]) mass += score[e];
  mass *= gate.mass;
  const int limit = gate.limit(layer);
  int count = 0;
  while (count < limit && (gate.mass <= 0 || count < gate.minimum || total < mass)) {
    int best = -1;
    for (int e = 0; e < l.experts; e++)
      if (own.open[e] && (best < 0 || choice[e] > choice[best])) best = e;
    own.open[best] = 0;
    chosen[count] = best;
    weights[count++] = score[best];
    total += score[best];
  }
  for (int i = 0; i < count; i++) {
    const float share = l.unit_weights ? 1.0f : l.normalise ? weights[i] / (total + 1e-20f) : weights[i];
    weights[i] = share * l.expert_scale;
  }
  return count;
}

// Asks for the cold experts that the next layer will probably use: those that its router chooses for this
// layer's input, which differs from its own by one layer's output. Many rows use all experts.
inline void prefetch_next(Model& model, Layer& next, Scratch& own, int rows) {
  const R1LayerShape& l = next.shape;
  const int hidden = model.shape.hidden, x_ld = round_up(hidden, LANES);
  std::vector<char> wanted(l.experts, rows > LOCAL_ROWS);
  if (rows <= LOCAL_ROWS) {
    std::vector<int32_t> chosen(model.gate.limit(next));
    std::vector<float> weights(chosen.size()), logits(next.router.width());
    float* normed = own.sample.need(x_ld);
    Operand operand;
    operand.x = {normed};
    for (int t = 0; t < rows; t++) {
      rms_norm(model.x.data + size_t(t) * x_ld, next.feed_forward_norm.data(), model.shape.norm_eps, hidden, normed);
      multiply(next.router, 0, next.router.panels, operand, 0, 1, logits.data(), next.router.width());
      const int count = route(next, model.gate, logits.data(), own, chosen.data(), weights.data());
      for (int i = 0; i < count; i++) wanted[chosen[i]] = 1;
    }
  }
  for (int e = 0; e < l.experts; e++) {
    if (!wanted[e] || next.places[e].resident) continue;
    model.expert_file.prefetcher.ask(next.expert_gate_up[e]->memory);
    model.expert_file.prefetcher.ask(next.expert_down[e]->memory);
  }
}

// One thread's notes of a layer's choice: uses, hits and misses, and requests for pages.
inline void note_choice(Model& model, Layer& layer, Layer* next, Scratch& own, int rows) {
  model.routed_rows += rows;
  ExpertFile& file = model.expert_file;
  for (int e : own.expert_of_part) {
    const int tokens = own.starts[e + 1] - own.starts[e];
    layer.uses[e] += tokens;
    model.routed_pairs += tokens;
    if (!file.open_for_use()) continue;
    ExpertPlace& place = layer.places[e];
    place.recent += float(tokens);
    place.resident ? file.hits++ : file.misses++;
    if (place.resident) continue;
    file.prefetcher.ask(layer.expert_gate_up[e]->memory);
    file.prefetcher.ask(layer.expert_down[e]->memory);
  }
  if (file.open_for_use() && next && next->shape.experts) prefetch_next(model, *next, own, rows);
}

// After a step: the most used cold experts take the memory of the least used resident ones. At most two
// change places, so that no step waits long.
inline void promote_experts(Model& model) {
  constexpr int kMost = 2;
  constexpr float kMargin = 1.5f, kLeast = 4.0f, kDecay = 0.99f;
  if (!model.expert_file.open_for_use() || !model.expert_file.promotes) return;
  for (int i = 0; i < kMost; i++) {
    Layer *from = nullptr, *to = nullptr;
    int out = 0, in = 0;
    for (auto& layer : model.layers)
      for (int e = 0; e < layer->shape.experts; e++) {
        const ExpertPlace& place = layer->places[e];
        if (place.resident && (!from || place.recent < from->places[out].recent)) from = layer.get(), out = e;
        if (!place.resident && (!to || place.recent > to->places[in].recent)) to = layer.get(), in = e;
      }
    if (!from || !to || to->places[in].recent < kLeast || to->places[in].recent < kMargin * from->places[out].recent) break;
    Matrix* old_pair[2] = {from->expert_gate_up[out].get(), from->expert_down[out].get()};
    Matrix* new_pair[2] = {to->expert_gate_up[in].get(), to->expert_down[in].get()};
    if (!model.expert_file.exchange(from->places[out], old_pair, to->places[in], new_pair)) break;
  }
  for (auto& layer : model.layers)
    for (ExpertPlace& place : layer->places) place.recent *= kDecay;
}

// Gate and up panels alternate: panel 2 i is gate, 2 i + 1 is up. Writes silu(gate) * up.
inline void gate_up_part(const Matrix& m, int begin, int end, const Operand& in, int first, int rows, Scratch& own,
                         float* out, int ldo) {
  const int width = (end - begin) * 2 * LANES;
  float* both = own.result.need(size_t(rows) * width);
  multiply(m, begin * 2, end * 2, in, first, rows, both, width);
  for (int t = 0; t < rows; t++)
    for (int i = 0; i < end - begin; i++)
      for (int h = 0; h < LANES; h += 8) {
        const float* at = both + size_t(t) * width + i * 2 * LANES + h;
        store8(out + size_t(t) * ldo + (begin + i) * LANES + h, silu8(load8(at)) * load8(at + LANES));
      }
}

inline void experts_phase(Model& model, Layer& layer, Layer* next, Worker& worker, Scratch& own, int rows) {
  const R1LayerShape& l = layer.shape;
  const int hidden = model.shape.hidden, x_ld = round_up(hidden, LANES), k = model.gate.limit(layer);
  const int router_ld = layer.router.width(), inner_ld = round_up(l.expert_inner, LANES);
  const int shared_ld = round_up(l.shared_inner, LANES);
  const Matrix& sample = *layer.expert_gate_up[0];
  const bool integer = sample.integer() || (l.shared_inner && layer.shared_gate_up.integer());
  prepare(model, worker, own, {model.x.data, x_ld, rows}, hidden, layer.feed_forward_norm.data(), model.shape.norm_eps,
          integer, own.operand);
  worker.share(layer.router.panels, 1, [&](int begin, int end) {
    multiply(layer.router, begin, end, own.operand, 0, rows, model.router.data + begin * LANES, router_ld);
  });
  worker.barrier();
  worker.share(rows, 1, [&](int begin, int end) {
    for (int t = begin; t < end; t++)
      model.chosen_count.data[t] = route(layer, model.gate, model.router.data + size_t(t) * router_ld, own,
                                         model.chosen.data + size_t(t) * k, model.chosen_weight.data + size_t(t) * k);
  });
  worker.barrier();

  // Pairs (token, expert) in order of experts; each thread builds the same lists. A pair's number is
  // token * k + place among the token's choices.
  own.starts.assign(l.experts + 1, 0);
  auto each_pair = [&](auto&& body) {
    for (int t = 0; t < rows; t++)
      for (int i = t * k; i < t * k + model.chosen_count.data[t]; i++) body(i, model.chosen.data[i]);
  };
  each_pair([&](int, int e) { own.starts[e + 1]++; });
  for (int e = 0; e < l.experts; e++) own.starts[e + 1] += own.starts[e];
  const int pairs = own.starts[l.experts];
  own.pair_token.resize(pairs);
  std::vector<int> following(own.starts.begin(), own.starts.end() - 1);
  each_pair([&](int i, int e) { own.pair_token[following[e]++] = i; });
  own.pairs.x.resize(pairs);
  own.pairs.q.resize(pairs);
  for (int i = 0; i < pairs; i++) {
    own.pairs.x[i] = own.operand.x[own.pair_token[i] / k];
    own.pairs.q[i] = own.operand.q[own.pair_token[i] / k];
  }
  own.expert_of_part.clear();
  for (int e = 0; e < l.experts; e++)
    if (own.starts[e + 1] > own.starts[e]) own.expert_of_part.push_back(e);
  const int active = int(own.expert_of_part.size());
  if (worker.index == 0) note_choice(model, layer, next, own, rows);
  // The resident experts come first: the pages of the others arrive meanwhile.
  own.resident_first = own.expert_of_part;
  if (model.expert_file.open_for_use())
    std::stable_partition(own.resident_first.begin(), own.resident_first.end(), [&](int e) { return layer.places[e].resident; });
  const int columns = inner_ld / LANES, part = std::min(columns, panel_part(columns * active, worker.count));
  const int parts = ceil_div(columns, part), shared_columns = shared_ld / LANES, shared_parts = ceil_div(shared_columns, part);
  worker.share(active * parts + shared_parts, 1, [&](int begin, int end) {
    for (int i = begin; i < end; i++) {
      if (i >= active * parts) {
        const int at = (i - active * parts) * part, to = at + part < shared_columns ? at + part : shared_columns;
        gate_up_part(layer.shared_gate_up, at, to, own.operand, 0, rows, own, model.shared_inner.data, shared_ld);
        continue;
      }
      const int e = own.resident_first[i / parts], at = i % parts * part, to = at + part < columns ? at + part : columns;
      const int first = own.starts[e];
      gate_up_part(*layer.expert_gate_up[e], at, to, own.pairs, first, own.starts[e + 1] - first, own,
                   model.inner.data + size_t(first) * inner_ld, inner_ld);
    }
  });
  worker.barrier();

  prepare(model, worker, own, {model.inner.data, inner_ld, pairs}, l.expert_inner, nullptr, 0, layer.expert_down[0]->integer(), own.second, 0);
  if (l.shared_inner)
    prepare(model, worker, own, {model.shared_inner.data, shared_ld, rows}, l.shared_inner, nullptr, 0, layer.shared_down.integer(), own.operand, 1);
  const int out_panels = layer.expert_down[0]->panels;
  worker.share(out_panels, panel_part(out_panels, worker.count), [&](int begin, int end) {
    const int width = (end - begin) * LANES;
    auto add = [&](const Matrix& m, const Operand& in, int first, int count, bool shared) {
      float* result = own.result.need(size_t(count) * width);
      multiply(m, begin, end, in, first, count, result, width);
      for (int t = 0; t < count; t++) {
        const int pair = shared ? 0 : own.pair_token[first + t];
        const float weight = shared ? 1.0f : model.chosen_weight.data[pair];
        float* to = model.x.data + size_t(shared ? t : pair / k) * x_ld + begin * LANES;
        for (int c = 0; c < width; c += 8) store8(to + c, load8(to + c) + load8(result + size_t(t) * width + c) * weight);
      }
    };
    for (int e : own.expert_of_part)
      add(*layer.expert_down[e], own.second, own.starts[e], own.starts[e + 1] - own.starts[e], false);
    if (l.shared_inner) add(layer.shared_down, own.operand, 0, rows, true);
  });
  worker.barrier();
}

}  // namespace r1
