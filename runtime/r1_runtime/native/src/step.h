// One step: every thread runs the same phases, with a barrier between two that depend on each other.
#pragma once
#include "attention_sparse.h"
#include "draft.h"
#include "experts.h"

namespace r1 {

// One part of the attention of a layer.
struct AttentionPart {
  int sequence, head, head_end, first, last, from, to;
  int64_t partial;  // offset in Model::partial, or -1
  bool expanded;
  bool sparse = false;
};

// A row and head group whose context was split: `count` partial states to merge.
struct Merge {
  int row, head, heads, count;
  int64_t partial;
};

struct AttentionPlan {
  std::vector<AttentionPart> parts;
  std::vector<Merge> merges;
  std::vector<std::pair<int, int>> filled_units;  // (sequence, unit) whose last slot this step writes
  int64_t partial_floats = 0;
};

// The first of the rows [first, last) of a sequence that attends sparsely; all rows after it do, too.
inline int first_sparse_row(const Sparsity& sparsity, const R1Plan& plan, int s, int tile) {
  const int first = plan.query_starts[s], last = plan.query_starts[s + 1];
  if (!sparsity.on()) return last;
  const int generated = plan.prompt_lengths ? plan.prompt_lengths[s] : 0;
  for (int t = first; t < last; t++) {
    const int position = plan.positions[t];
    const bool prompt = position < generated;
    if (prompt && !sparsity.options.prompts) continue;
    if ((prompt ? position / tile * tile : position) + 1 >= sparsity.options.from_context) return t;
  }
  return last;
}

// Parts of the rows [first, last) of sequence s: tiles of the prompt, then one part per generated token.
inline void plan_sparse(AttentionPlan& out, const Layer& layer, const R1Plan& plan, int s, int first, int last) {
  const R1LayerShape& l = layer.shape;
  const int heads = l.latent ? l.heads : l.kv_heads, width = l.latent ? std::min(l.heads, QUERY_ROWS) : 1;
  const int tile = tile_positions(l.latent ? width : l.heads / l.kv_heads);
  const int generated = plan.prompt_lengths ? plan.prompt_lengths[s] : 0;
  for (int t = first; t < last;) {
    const int position = plan.positions[t];
    int end = t + 1;
    while (position < generated && end < last && plan.positions[end] < generated && plan.positions[end] % tile) end++;
    for (int g = 0; g < heads; g += width)
      out.parts.push_back({s, g, std::min(g + width, heads), t, end, 0, (position + 1) / 8, -1, false, true});
    t = end;
  }
}

inline AttentionPlan plan_attention(const Sparsity& sparsity, const Layer& layer, const R1Plan& plan, int threads) {
  const R1LayerShape& l = layer.shape;
  AttentionPlan out;
  const int groups = l.latent ? 1 : l.kv_heads, per_group = l.heads / groups;
  const int state = (l.latent ? layer.key_ld() : layer.head_ld()) + 2;
  const bool few = l.latent && plan.sequences * 2 <= threads;
  for (int s = 0; s < plan.sequences; s++) {
    const int first = plan.query_starts[s], end = plan.query_starts[s + 1];
    const int last = first_sparse_row(sparsity, plan, s, tile_positions(l.latent ? std::min(l.heads, QUERY_ROWS) : per_group));
    if (sparsity.on())
      for (int u = plan.positions[first] / UNIT; u < plan.context_lengths[s] / UNIT; u++) out.filled_units.push_back({s, u});
    plan_sparse(out, layer, plan, s, last, end);
    if (last == first) continue;
    const int context = plan.positions[last - 1] + 1;
    if (l.latent && last - first >= expanded_rows(l)) {
      for (int h = 0; h < l.heads; h++) out.parts.push_back({s, h, h + 1, first, last, 0, context, -1, true});
      continue;
    }
    const int splits = last - first == 1 ? ceil_div(context, SPLIT) : 1;
    const int tile = std::max(1, QUERY_ROWS / per_group);
    // Heads of latent attention share their key; they are divided where threads would be idle.
    const int width = !l.latent ? 1 : std::max(1, few && splits < threads ? ceil_div(l.heads, threads) : std::min(l.heads, QUERY_ROWS));
    for (int g = 0; g < (l.latent ? l.heads : l.kv_heads); g += width) {
      const int head_end = std::min(g + width, l.latent ? l.heads : l.kv_heads);
      if (splits > 1) {
        const int rows = l.latent ? head_end - g : per_group;
        out.merges.push_back({first, g, rows, splits, out.partial_floats});
        for (int i = 0; i < splits; i++) {
          const int from = i * SPLIT, to = std::min(context, from + SPLIT);
          out.parts.push_back({s, g, head_end, first, last, from, to, out.partial_floats, false});
          out.partial_floats += int64_t(rows) * state;
        }
        continue;
      }
      for (int t = first; t < last; t += tile) {
        const int to = std::min(last, t + tile);
        out.parts.push_back({s, g, head_end, t, to, 0, plan.positions[to - 1] + 1, -1, false});
      }
    }
  }
  // The longest first, so that no thread begins one when the others have finished.
  std::stable_sort(out.parts.begin(), out.parts.end(), [](const AttentionPart& a, const AttentionPart& b) {
    return int64_t(a.to - a.from) * (a.last - a.first) > int64_t(b.to - b.from) * (b.last - b.first);
  });
  return out;
}

inline void merge_part(Model& model, Layer& layer, Scratch& own, const Merge& merge) {
  const R1LayerShape& l = layer.shape;
  const int ld = l.latent ? layer.key_ld() : layer.head_ld(), state = ld + 2;
  const int per_group = l.latent ? 1 : l.heads / l.kv_heads;
  float* total = own.out.need(ld);
  for (int h = 0; h < merge.heads; h++) {
    float most = -INFINITY, sum = 0;
    auto part = [&](int i) { return model.partial.data + merge.partial + (int64_t(i) * merge.heads + h) * state; };
    for (int i = 0; i < merge.count; i++) most = std::max(most, part(i)[ld]);
    memset(total, 0, size_t(ld) * 4);
    for (int i = 0; i < merge.count; i++) {
      const float* p = part(i);
      const float factor = std::exp(p[ld] - most);
      sum += p[ld + 1] * factor;
      for (int d = 0; d < ld; d += 8) store8(total + d, load8(total + d) + load8(p + d) * factor);
    }
    const float factor = 1.0f / sum;
    for (int d = 0; d < ld; d++) total[d] *= factor;
    if (l.latent) {
      mla_to_value(model, layer, own, merge.row, merge.head + h, total);
    } else {
      const int head = merge.head * per_group + h;
      memcpy(model.mixed.data + size_t(merge.row) * layer.output_ld() + head * l.head_dim, total, size_t(l.head_dim) * 4);
    }
  }
}

// x += m . in, shared by panels.
inline void add_product(Model& model, Worker& worker, Scratch& own, const Matrix& m, int rows) {
  const int x_ld = round_up(model.shape.hidden, LANES);
  worker.share(m.panels, panel_part(m.panels, worker.count), [&](int begin, int end) {
    const int width = (end - begin) * LANES;
    float* result = own.result.need(size_t(rows) * width);
    multiply(m, begin, end, own.operand, 0, rows, result, width);
    for (int t = 0; t < rows; t++) {
      float* to = model.x.data + size_t(t) * x_ld + begin * LANES;
      for (int c = 0; c < width; c += 8) store8(to + c, load8(to + c) + load8(result + size_t(t) * width + c));
    }
  });
  worker.barrier();
}

template <class E>
inline void attention_phase(Model& model, Layer& layer, const R1Plan& plan, const AttentionPlan& parts, Worker& worker,
                            Scratch& own) {
  const R1LayerShape& l = layer.shape;
  const int rows = plan.rows, hidden = model.shape.hidden, x_ld = round_up(hidden, LANES);
  prepare(model, worker, own, {model.x.data, x_ld, rows}, hidden, layer.attention_norm.data(), model.shape.norm_eps,
          layer.input.integer(), own.operand);
  worker.share(layer.input.panels, panel_part(layer.input.panels, worker.count), [&](int begin, int end) {
    multiply(layer.input, begin, end, own.operand, 0, rows, model.input.data + begin * LANES, layer.input.width());
  });
  worker.barrier();

  const int row_part = ceil_div(rows, worker.count);
  if (l.latent && l.q_lora) {
    prepare(model, worker, own, {model.input.data, layer.input.width(), rows}, l.q_lora, layer.q_a_norm.data(), l.inner_eps,
            layer.q_b.integer(), own.operand);
    const int part = panel_part(layer.q_b.panels, worker.count), parts_of_panels = ceil_div(layer.q_b.panels, part);
    worker.share(parts_of_panels + ceil_div(rows, row_part), 1, [&](int begin, int end) {
      for (int i = begin; i < end; i++) {
        if (i < parts_of_panels) {
          const int at = i * part, to = std::min(at + part, layer.q_b.panels);
          multiply(layer.q_b, at, to, own.operand, 0, rows, model.query.data + at * LANES, layer.q_b.width());
        } else {
          const int at = (i - parts_of_panels) * row_part;
          mla_write<E>(model, layer, plan, model.sequence_of.data, own, at, std::min(at + row_part, rows));
        }
      }
    });
  } else {
    worker.share(rows, row_part, [&](int begin, int end) {
      if (l.latent) mla_write<E>(model, layer, plan, model.sequence_of.data, own, begin, end);
      else gqa_write<E>(model, layer, plan, model.sequence_of.data, begin, end);
    });
  }
  worker.barrier();

  if (!parts.filled_units.empty()) {
    worker.share(int(parts.filled_units.size()), 1, [&](int begin, int end) {
      for (int i = begin; i < end; i++)
        write_summary<E>(model, layer, plan, own, parts.filled_units[i].first, parts.filled_units[i].second);
    });
    worker.barrier();
  }
  worker.share(int(parts.parts.size()), 1, [&](int begin, int end) {
    for (int i = begin; i < end; i++) {
      const AttentionPart& p = parts.parts[i];
      if (p.sparse) {
        if (l.latent) mla_sparse<E>(model, layer, plan, own, p.sequence, p.head, p.head_end, p.first, p.last);
        else gqa_sparse<E>(model, layer, plan, own, p.sequence, p.head, p.first, p.last);
        continue;
      }
      float* partial = p.partial < 0 ? nullptr : model.partial.data + p.partial;
      if (!l.latent) gqa_part<E>(model, layer, plan, own, p.sequence, p.head, p.first, p.last, p.from, p.to, partial);
      else if (p.expanded) mla_expanded<E>(model, layer, plan, own, p.sequence, p.head, p.first, p.last, p.to);
      else mla_part<E>(model, layer, plan, own, p.sequence, p.head, p.head_end, p.first, p.last, p.from, p.to, partial);
    }
  });
  worker.barrier();
  if (!parts.merges.empty()) {
    worker.share(int(parts.merges.size()), 1, [&](int begin, int end) {
      for (int i = begin; i < end; i++) merge_part(model, layer, own, parts.merges[i]);
    });
    worker.barrier();
  }
  prepare(model, worker, own, {model.mixed.data, layer.output_ld(), rows}, layer.mixed_width(), nullptr, 0,
          layer.output.integer(), own.operand);
  add_product(model, worker, own, layer.output, rows);
}

inline void dense_phase(Model& model, Layer& layer, Worker& worker, Scratch& own, int rows) {
  const int hidden = model.shape.hidden, inner_ld = round_up(layer.shape.inner, LANES), columns = inner_ld / LANES;
  prepare(model, worker, own, {model.x.data, round_up(hidden, LANES), rows}, hidden, layer.feed_forward_norm.data(),
          model.shape.norm_eps, layer.gate_up.integer(), own.operand);
  worker.share(columns, panel_part(columns, worker.count), [&](int begin, int end) {
    gate_up_part(layer.gate_up, begin, end, own.operand, 0, rows, own, model.inner.data, inner_ld);
  });
  worker.barrier();
  prepare(model, worker, own, {model.inner.data, inner_ld, rows}, layer.shape.inner, nullptr, 0, layer.down.integer(), own.operand);
  add_product(model, worker, own, layer.down, rows);
}

template <class E>
void layer_phase(Model& model, Layer& layer, Layer* next, const R1Plan& plan, const AttentionPlan& parts, Worker& worker, Scratch& own) {
  attention_phase<E>(model, layer, plan, parts, worker, own);
  if (layer.shape.experts) experts_phase(model, layer, next, worker, own, plan.rows);
  else dense_phase(model, layer, worker, own, plan.rows);
}

// logits = output head . norm(rows). Ends with a barrier.
inline void head_phase(Model& model, Worker& worker, Scratch& own, const RowSource& rows, const float* norm) {
  const Matrix& head = model.output_head();
  prepare(model, worker, own, rows, model.shape.hidden, norm, model.shape.norm_eps, head.integer(), own.operand);
  worker.share(head.panels, panel_part(head.panels, worker.count), [&](int begin, int end) {
    multiply(head, begin, end, own.operand, 0, rows.count, model.logits.data + begin * LANES, head.width());
  });
  worker.barrier();
}

inline void allocate_step(Model& model, const R1Plan& plan) {
  const size_t rows = plan.rows;
  model.x.need(rows * round_up(model.shape.hidden, LANES));
  model.logits.need(size_t(plan.outputs) * model.output_head().width() + 1);
  if (model.draft) model.joined.need(rows * round_up(2 * model.shape.hidden, LANES));
  for (Layer* layer : model.all_layers()) {
    const R1LayerShape& l = layer->shape;
    model.input.need(rows * layer->input.width());
    if (!layer->q_b.empty()) model.query.need(rows * layer->q_b.width());
    model.mixed.need(rows * layer->output_ld());
    if (l.experts) {
      const size_t limit = model.gate.limit(*layer);
      model.inner.need(rows * limit * round_up(l.expert_inner, LANES));
      model.shared_inner.need(rows * round_up(l.shared_inner, LANES) + 1);
      model.router.need(rows * layer->router.width());
      model.chosen.need(rows * limit);
      model.chosen_count.need(rows);
      model.chosen_weight.need(rows * limit);
    } else {
      model.inner.need(rows * round_up(l.inner, LANES));
    }
  }
  model.sequence_of.need(rows);
  for (int s = 0; s < plan.sequences; s++)
    for (int t = plan.query_starts[s]; t < plan.query_starts[s + 1]; t++) model.sequence_of.data[t] = s;
  while (int(model.scratch.size()) < model.pool.size()) model.scratch.push_back(std::make_unique<Scratch>());
}

template <class E>
inline void step(Model& model, const R1Plan& plan) {
  allocate_step(model, plan);
  const AttentionPlan parts = plan_attention(model.sparsity, *model.layers[0], plan, model.pool.size());
  const bool drafts = model.draft && plan.next_tokens;
  // The layer that drafts is one of many: it attends densely and has no summaries.
  const AttentionPlan draft_parts = drafts ? plan_attention(Sparsity{}, *model.draft, plan, model.pool.size()) : AttentionPlan{};
  model.partial.need(size_t(std::max(parts.partial_floats, draft_parts.partial_floats)) + 1);
  const int rows = plan.rows, hidden = model.shape.hidden, x_ld = round_up(hidden, LANES);
  model.pool.run([&](Worker& worker) {
    Scratch& own = *model.scratch[worker.index];
    worker.share(rows, ceil_div(rows, worker.count), [&](int begin, int end) {
      for (int t = begin; t < end; t++) {
        float* row = model.x.data + size_t(t) * x_ld;
        unpack_row(model.embedding, plan.tokens[t], row);
        for (int c = hidden; c < x_ld; c++) row[c] = 0;
      }
    });
    worker.barrier();
    for (size_t i = 0; i < model.layers.size(); i++)
      layer_phase<E>(model, *model.layers[i], i + 1 < model.layers.size() ? model.layers[i + 1].get() : nullptr, plan, parts, worker, own);
    if (plan.hidden_count)
      worker.share(plan.hidden_count, ceil_div(plan.hidden_count, worker.count), [&](int begin, int end) {
        float* normed = own.rows[0].need(x_ld);
        for (int i = begin; i < end; i++) {
          rms_norm(model.x.data + size_t(plan.hidden_rows[i]) * x_ld, model.final_norm.data(), model.shape.norm_eps, hidden, normed);
          memcpy(plan.out_hidden + size_t(i) * hidden, normed, size_t(hidden) * 4);
        }
      });
    worker.barrier();
    if (plan.outputs) {
      head_phase(model, worker, own, {model.x.data, x_ld, plan.outputs, plan.output_rows}, model.final_norm.data());
      worker.share(plan.outputs, 1, [&](int begin, int end) {
        for (int r = begin; r < end; r++) {
          float* logits = model.logits.data + size_t(r) * model.output_head().width();
          if (plan.out_logits) memcpy(plan.out_logits + size_t(r) * model.shape.vocab, logits, size_t(model.shape.vocab) * 4);
          sample_row(model, plan, r, own, logits);
        }
      });
      worker.barrier();
    }
    if (drafts) draft_phase<E>(model, plan, draft_parts, worker, own);
  });
}

}  // namespace r1
