// Mixture of experts: routing, then two phases over (expert, part of its panels).
//
// Weights are read in place and never gathered per token; the rows of an expert are pointers.
#pragma once
#include "rows.h"

namespace r1 {

// Chooses the experts of one row from its router logits (DeepSeek-V3, arXiv 2412.19437, 2.1.2; V2,
// arXiv 2405.04434, 2.2.3). Ties go to the lower number.
inline void route(const Layer& layer, const float* logits, int32_t* chosen, float* weights) {
  const R1LayerShape& l = layer.shape;
  std::vector<float> score(l.experts), choice(l.experts);
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
    for (int e = 0; e < l.experts; e++)
      if (!open[e / size]) choice[e] = -INFINITY;
  }
  float total = 0;
  for (int i = 0; i < l.experts_per_token; i++) {
    int best = -1;
    for (int e = 0; e < l.experts; e++) {
      bool taken = false;
      for (int j = 0; j < i; j++) taken |= chosen[j] == e;
      if (!taken && (best < 0 || choice[e] > choice[best])) best = e;
    }
    chosen[i] = best;
    weights[i] = score[best];
    total += score[best];
  }
  for (int i = 0; i < l.experts_per_token; i++)
    weights[i] = (l.normalise ? weights[i] / (total + 1e-20f) : weights[i]) * l.expert_scale;
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

inline void experts_phase(Model& model, Layer& layer, Worker& worker, Scratch& own, int rows) {
  const R1LayerShape& l = layer.shape;
  const int hidden = model.shape.hidden, x_ld = round_up(hidden, LANES), k = l.experts_per_token, pairs = rows * k;
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
      route(layer, model.router.data + size_t(t) * router_ld, model.chosen.data + size_t(t) * k, model.chosen_weight.data + size_t(t) * k);
  });
  worker.barrier();

  // Pairs (token, expert) in order of experts; each thread builds the same lists.
  own.starts.assign(l.experts + 1, 0);
  for (int i = 0; i < pairs; i++) own.starts[model.chosen.data[i] + 1]++;
  for (int e = 0; e < l.experts; e++) own.starts[e + 1] += own.starts[e];
  own.pair_token.resize(pairs);
  std::vector<int> next(own.starts.begin(), own.starts.end() - 1);
  for (int i = 0; i < pairs; i++) own.pair_token[next[model.chosen.data[i]]++] = i;
  own.pairs.x.resize(pairs);
  own.pairs.q.resize(pairs);
  for (int i = 0; i < pairs; i++) {
    own.pairs.x[i] = own.operand.x[own.pair_token[i] / k];
    own.pairs.q[i] = own.operand.q[own.pair_token[i] / k];
  }
  const int columns = inner_ld / LANES, part = panel_part(columns * k, worker.count) < columns ? panel_part(columns * k, worker.count) : columns;
  const int parts = ceil_div(columns, part), shared_columns = shared_ld / LANES, shared_parts = ceil_div(shared_columns, part);
  own.expert_of_part.clear();
  for (int e = 0; e < l.experts; e++)
    if (own.starts[e + 1] > own.starts[e]) own.expert_of_part.push_back(e);
  const int active = int(own.expert_of_part.size());
  worker.share(active * parts + shared_parts, 1, [&](int begin, int end) {
    for (int i = begin; i < end; i++) {
      if (i >= active * parts) {
        const int at = (i - active * parts) * part, to = at + part < shared_columns ? at + part : shared_columns;
        gate_up_part(layer.shared_gate_up, at, to, own.operand, 0, rows, own, model.shared_inner.data, shared_ld);
        continue;
      }
      const int e = own.expert_of_part[i / parts], at = i % parts * part, to = at + part < columns ? at + part : columns;
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
