// The layer that drafts the token after the next one; r1_runtime/backends/reference/draft_layer.py is the
// specification. It runs behind the network in the same step: the token after each row is known or has
// just been sampled.
#pragma once
#include "rows.h"
#include "sampler.h"

namespace r1 {

struct AttentionPlan;  // of step.h, as are the two phases that the layer shares with the network
template <class E>
void layer_phase(Model&, Layer&, Layer*, const R1Plan&, const AttentionPlan&, Worker&, Scratch&);
inline void head_phase(Model&, Worker&, Scratch&, const RowSource& rows, const float* norm);

// Whether an output row is the last that the step keeps: the row after it is of another sequence, or holds
// a draft that is not the sampled token. Proposals after other rows are not read, so the output head, which
// is most of a proposal's cost, runs for these alone.
inline bool proposal_is_read(const R1Plan& plan, const Model& model, int output) {
  const int row = plan.output_rows[output], next = row + 1;
  if (next == plan.rows || model.sequence_of.data[next] != model.sequence_of.data[row]) return true;
  return plan.tokens[next] != plan.out_tokens[output];
}

// joined = [norm(embedding of the token after the row) | norm(final norm of the row's state)].
inline void join_row(Model& model, Scratch& own, const R1Plan& plan, int row, int token, float* joined) {
  const int hidden = model.shape.hidden, x_ld = round_up(hidden, LANES);
  const float eps = model.shape.norm_eps;
  float* values = own.rows[0].need(2 * size_t(x_ld));
  unpack_row(model.embedding, token < 0 ? 0 : token, values);
  rms_norm(values, model.draft_embedding_norm.data(), eps, hidden, joined);
  rms_norm(model.x.data + size_t(row) * x_ld, model.final_norm.data(), eps, hidden, values);
  rms_norm(values, model.draft_state_norm.data(), eps, hidden, joined + hidden);
}

// Computes the layer for all rows, which fills its cache, and writes plan.out_drafts; -1 where no
// proposal is read. Every thread must call it, after all output rows have their tokens.
template <class E>
inline void draft_phase(Model& model, const R1Plan& plan, const AttentionPlan& parts, Worker& worker, Scratch& own) {
  const int rows = plan.rows, hidden = model.shape.hidden, x_ld = round_up(hidden, LANES);
  const int joined_ld = round_up(2 * hidden, LANES);
  if (worker.index == 0) {
    model.next_tokens.need(rows);
    std::copy(plan.next_tokens, plan.next_tokens + rows, model.next_tokens.data);
    model.draft_rows.clear();
    model.draft_outputs.clear();
    for (int i = 0; i < plan.outputs; i++) {
      int32_t& next = model.next_tokens.data[plan.output_rows[i]];
      if (next < 0) next = plan.out_tokens[i];
      plan.out_drafts[i] = -1;
      if (!proposal_is_read(plan, model, i)) continue;
      model.draft_rows.push_back(plan.output_rows[i]);
      model.draft_outputs.push_back(i);
    }
  }
  worker.barrier();
  worker.share(rows, ceil_div(rows, worker.count), [&](int begin, int end) {
    for (int t = begin; t < end; t++)
      join_row(model, own, plan, t, model.next_tokens.data[t], model.joined.data + size_t(t) * joined_ld);
  });
  worker.barrier();
  const Matrix& projection = model.draft_projection;
  prepare(model, worker, own, {model.joined.data, joined_ld, rows}, 2 * hidden, nullptr, 0, projection.integer(), own.operand);
  worker.share(projection.panels, panel_part(projection.panels, worker.count), [&](int begin, int end) {
    multiply(projection, begin, end, own.operand, 0, rows, model.x.data + begin * LANES, x_ld);
  });
  worker.barrier();
  layer_phase<E>(model, *model.draft, nullptr, plan, parts, worker, own);

  const int outputs = int(model.draft_rows.size());
  if (!outputs) return;
  head_phase(model, worker, own, {model.x.data, x_ld, outputs, model.draft_rows.data()}, model.draft_head_norm.data());
  worker.share(outputs, 1, [&](int begin, int end) {
    for (int i = begin; i < end; i++) {
      const float* logits = model.logits.data + size_t(i) * model.output_head().width();
      const int n = model.shape.vocab;
      plan.out_drafts[model.draft_outputs[i]] = first_equal(logits, n, largest_logit(logits, n));
    }
  });
}

}  // namespace r1
