// Shapes, weights and cache of a network, and the arrays of a step.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "matmul.h"
#include "pack.h"
#include "residency.h"
#include "sparsity.h"
#include "threads.h"

extern "C" {

// Plain structures of the C interface; r1_runtime/backends/cpu/library.py mirrors them.
struct R1Shape {
  int32_t vocab, hidden, layers, max_positions, block_size, blocks, cache_type;
  float norm_eps;
  int32_t tied_head;
};

struct R1LayerShape {
  int32_t latent;  // 1: multi-head latent attention; 0: grouped-query attention
  int32_t heads, kv_heads, head_dim, qk_norm;
  int32_t q_lora, kv_lora, nope, v_dim;  // latent attention; q_lora 0 is one full matrix
  int32_t rope_dim, interleaved;
  float softmax_scale, inner_eps, cos_sin_scale;
  int32_t inner;  // dense feed-forward; 0 for experts
  int32_t experts, experts_per_token, expert_inner, shared_inner;
  int32_t softmax_scores, normalise, groups, top_groups, group_maximum;
  float expert_scale;
  int32_t unit_weights;  // every chosen expert weighs expert_scale
};

struct R1Plan {
  int32_t rows, sequences, outputs;
  const int32_t *tokens, *positions, *query_starts, *context_lengths, *block_starts, *blocks, *output_rows;
  const float *temperatures, *top_p, *min_p;
  const int32_t *top_k, *targets, *top_counts, *masks;
  const uint64_t *seeds, *counters;
  const int32_t *adjust_starts, *adjust_tokens;
  const float* adjust_values;
  const uint32_t* mask_bits;
  int32_t mask_words;
  int32_t *out_tokens, *out_top_tokens;  // top arrays: [outputs][top_width]
  float *out_logprobs, *out_top_logprobs;
  int32_t top_width;
  float* out_logits;  // [outputs][vocab], or null
  int32_t hidden_count;  // rows whose normed last hidden state is returned
  const int32_t* hidden_rows;
  float* out_hidden;  // [hidden_count][hidden]
  const int32_t* next_tokens;  // [rows] the token after each row, -1 where the step samples it; or null
  int32_t* out_drafts;         // [outputs] proposals for the token after the sampled one, -1 for none
  const int32_t* prompt_lengths;  // [sequences] position from which rows are generated tokens, or null
};

}  // extern "C"

namespace r1 {

enum CacheType : int { CACHE_F32 = 0, CACHE_F16, CACHE_BF16, CACHE_INT8, CACHE_INT4, CACHE_F8 };

struct Layer {
  R1LayerShape shape{};
  std::vector<float> inverse_frequencies;
  std::vector<float> attention_norm, feed_forward_norm, q_norm, k_norm, q_a_norm, kv_a_norm;
  Matrix input;        // q | k | v, or q_a | kv_a, or q | kv_a
  Matrix q_b;          // latent attention with q_lora
  Matrix output;       // o_proj
  Matrix to_key;       // W_UK, transposed: heads x key_ld rows of nope inputs
  Matrix to_value;     // W_UV: heads x value_ld rows of kv_lora inputs
  Matrix gate_up, down;
  Matrix router;
  std::vector<float> correction;
  std::vector<std::unique_ptr<Matrix>> expert_gate_up, expert_down;
  std::vector<ExpertPlace> places;  // of each expert
  std::vector<uint64_t> uses;       // tokens that each expert computed
  Matrix shared_gate_up, shared_down;
  Memory cache, summary;  // summaries of the cache's units, where attention is sparse
  int index = 0;
  std::vector<float> cosines, sines;  // [position][rope_dim / 2], shared by layers of equal tables
  const float *cos_table = nullptr, *sin_table = nullptr;

  int latent_dim() const { return shape.kv_lora + shape.rope_dim; }
  int key_ld() const { return round_up(shape.kv_lora, LANES); }
  int value_ld() const { return round_up(shape.v_dim, LANES); }
  int head_ld() const { return round_up(shape.head_dim, LANES); }
  int qk_dim() const { return shape.nope + shape.rope_dim; }
  int query_width() const { return shape.latent ? shape.heads * qk_dim() : shape.heads * shape.head_dim; }
  int eligible() const { return shape.experts / shape.groups * shape.top_groups; }
  int output_ld() const { return round_up(mixed_width(), LANES); }
  int mixed_width() const { return shape.heads * (shape.latent ? shape.v_dim : shape.head_dim); }
};

// A growing buffer without initial values.
template <class T>
struct Buffer {
  T* data = nullptr;
  size_t size = 0;
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  ~Buffer() { std::free(data); }
  T* need(size_t count) {
    if (count > size) {
      std::free(data);
      size = 0;
      data = static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64));
      if (!data) throw std::bad_alloc();
      size = count;
    }
    return data;
  }
};

// How many experts a token uses: the smallest set whose scores reach `mass` of their sum, within the two
// bounds. Mass 0: the layer's own fixed number.
struct ExpertGate {
  float mass = 0;
  int minimum = 1, maximum = 1;

  int limit(const Layer& layer) const {
    return mass > 0 ? std::min(maximum, layer.eligible()) : layer.shape.experts_per_token;
  }
};

// Memory of one thread within a phase.
struct Scratch {
  Buffer<float> rows[2], result, queries, scores, out, state, keys, values, sample, changed;
  Buffer<double> sums;
  Buffer<int32_t> places;
  Buffer<uint8_t> quantised[2];
  Operand operand, second, pairs;
  std::vector<const void*> units, units2;
  std::vector<const float*> pointers;
  std::vector<int> valid, starts, pair_token, expert_of_part, resident_first;
  std::vector<float> score, choice;
  std::vector<char> open;

  // Sparse attention: the selection of a tile, and slots read and visible since the last report.
  Buffer<float> estimates, coarse_queries;
  std::vector<const float*> coarse_pointers;
  std::vector<const void*> summary_rows;
  std::vector<size_t> summary_index;
  std::vector<uint64_t> ranked;
  std::vector<uint8_t> chosen;
  std::vector<int> chosen_units;
  int64_t read_slots = 0, context_slots = 0;
};

struct Model {
  R1Shape shape{};
  std::vector<std::unique_ptr<Layer>> layers;
  Matrix embedding, head;
  std::vector<float> final_norm;
  std::unique_ptr<Layer> draft;  // the layer that drafts a token, or null
  std::vector<float> draft_embedding_norm, draft_state_norm, draft_head_norm;
  Matrix draft_projection;  // hidden x 2 hidden
  Sparsity sparsity;
  Pool pool{1};
  std::vector<std::unique_ptr<Scratch>> scratch;
  std::string error;
  ExpertGate gate;
  ExpertFile expert_file;
  uint64_t routed_rows = 0, routed_pairs = 0;  // rows of all steps, once per layer with experts; their experts

  // Arrays of a step, [rows][width].
  Buffer<float> x, normed[2], input, query, mixed, inner, shared_inner, router, logits, partial, chosen_weight;
  Buffer<uint8_t> quantised[2];
  Buffer<int32_t> chosen, chosen_count, sequence_of;  // chosen experts [rows][limit]; sequence of each row
  Buffer<float> joined;                               // inputs of the draft layer's projection
  Buffer<int32_t> next_tokens;
  std::vector<int32_t> draft_rows, draft_outputs;  // output rows whose proposal is read

  std::vector<Layer*> all_layers() const {  // the draft layer last
    std::vector<Layer*> all;
    for (auto& layer : layers) all.push_back(layer.get());
    if (draft) all.push_back(draft.get());
    return all;
  }
  const Matrix& output_head() const { return shape.tied_head ? embedding : head; }
};

}  // namespace r1
