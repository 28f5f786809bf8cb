// Sampling of one output row; r1_runtime/backends/reference/sampler.py is the specification.
#pragma once
#include <algorithm>

#include "model.h"

namespace r1 {

// Philox4x32-10 (Salmon et al. 2011); a double in [0, 1) from its first two words.
inline double random_of(uint64_t seed, uint64_t position) {
  uint32_t c[4] = {uint32_t(position), uint32_t(position >> 32), 0, 0};
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
    const uint32_t next[4] = {uint32_t(b >> 32) ^ c[1] ^ k0, uint32_t(b), uint32_t(a >> 32) ^ c[3] ^ k1, uint32_t(a)};
    memcpy(c, next, sizeof c);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return (double(c[0] >> 5) * 67108864.0 + double(c[1] >> 6)) / 9007199254740992.0;
}

inline int best_token(const float* logits, int n) {
  v8 peak = splat(-INFINITY);
  int i = 0;
  for (; i + 8 <= n; i += 8) peak = max8(load8(logits + i), peak);
  float most = largest8(peak);
  for (; i < n; i++) most = logits[i] > most ? logits[i] : most;
  for (i = 0; i < n; i++)
    if (logits[i] == most) return i;
  return 0;
}

// The `count` most probable tokens, best first; ties by the lower number.
inline void best_tokens(const float* logits, int n, int count, int32_t* tokens) {
  int filled = 0;
  for (int i = 0; i < n; i++) {
    if (filled == count && !(logits[i] > logits[tokens[filled - 1]])) continue;
    int at = filled < count ? filled++ : count - 1;
    for (; at > 0 && logits[i] > logits[tokens[at - 1]]; at--) tokens[at] = tokens[at - 1];
    tokens[at] = i;
  }
}

struct Cut {  // tokens above the weight, and equal ones up to the number, stay
  float weight = -1;
  int token = 0;
  bool keeps(float w, int i) const { return w > weight || (w == weight && i <= token); }
};

// The smallest set of the most probable tokens whose share of the whole weight reaches top_p.
inline Cut nucleus(const float* weights, int n, double top_p) {
  constexpr int kShift = 19, kBuckets = (0x3f800000 >> kShift) + 1;  // a weight is at most 1
  double mass[kBuckets] = {}, total = 0;
  auto bucket = [&](float w) {
    uint32_t bits;
    memcpy(&bits, &w, 4);
    return int(bits >> kShift);
  };
  for (int i = 0; i < n; i++)
    if (weights[i] > 0) mass[bucket(weights[i])] += weights[i], total += weights[i];
  const double wanted = top_p * total;
  double above = 0;
  int b = kBuckets - 1;
  for (; b > 0 && above + mass[b] < wanted; b--) above += mass[b];
  std::vector<std::pair<float, int>> border;
  for (int i = 0; i < n; i++)
    if (weights[i] > 0 && bucket(weights[i]) == b) border.push_back({-weights[i], i});
  std::sort(border.begin(), border.end());
  Cut cut;
  for (auto& [negative, token] : border) {
    cut = {-negative, token};
    above += -negative;
    if (above >= wanted) break;
  }
  return cut;
}

inline int draw(const R1Plan& plan, int row, float* logits, int n, float* weights) {
  const float temperature = std::max(plan.temperatures[row], 1e-5f);
  const float most = logits[best_token(logits, n)];
  float floor_logit = -INFINITY;
  const int k = plan.top_k[row];
  if (k > 0 && k < n) {
    std::copy(logits, logits + n, weights);
    std::nth_element(weights, weights + k - 1, weights + n, std::greater<float>());
    floor_logit = weights[k - 1];
  }
  const float inverse = 1.0f / temperature;
  int i = 0;
  for (; i + 8 <= n; i += 8) store8(weights + i, exp8((load8(logits + i) - most) * inverse));
  for (; i < n; i++) weights[i] = std::exp((logits[i] - most) * inverse);
  if (k > 0)
    for (i = 0; i < n; i++)
      if (logits[i] < floor_logit) weights[i] = 0;
  Cut cut;
  if (plan.top_p[row] < 1.0f) cut = nucleus(weights, n, plan.top_p[row]);
  const float least = plan.min_p[row];
  double total = 0;
  for (i = 0; i < n; i++) {
    if (!(cut.keeps(weights[i], i) && weights[i] >= least)) weights[i] = 0;
    total += weights[i];
  }
  const double wanted = random_of(plan.seeds[row], plan.counters[row]) * total;
  double sum = 0;
  int last = 0;
  for (i = 0; i < n; i++) {
    if (weights[i] <= 0) continue;
    sum += weights[i];
    last = i;
    if (sum > wanted) return i;
  }
  return last;
}

inline void sample_row(const Model& model, const R1Plan& plan, int row, Scratch& own, float* logits) {
  const int n = model.shape.vocab;
  v8 check = splat(0.0f), peak = splat(-INFINITY);
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    check += load8(logits + i) * 0.0f;
    peak = max8(load8(logits + i), peak);
  }
  float wrong = sum8(check), most = largest8(peak);
  for (; i < n; i++) {
    wrong += logits[i] * 0.0f;
    most = logits[i] > most ? logits[i] : most;
  }
  plan.out_logprobs[row] = 0;
  if (wrong != 0) {
    plan.out_tokens[row] = -1;
    return;
  }
  v8 sums = splat(0.0f);
  double total = 0;
  for (i = 0; i + 8 <= n; i += 8) {
    sums += exp8(load8(logits + i) - most);
    if (i % 4096 == 4088) total += sum8(sums), sums = splat(0.0f);
  }
  for (; i < n; i++) total += std::exp(logits[i] - most);
  const float normaliser = most + float(std::log(total + sum8(sums)));
  const int top = std::min(plan.top_counts[row], plan.top_width);
  if (top > 0) {
    int32_t* tokens = plan.out_top_tokens + size_t(row) * plan.top_width;
    best_tokens(logits, n, std::min(top, n), tokens);
    for (int j = 0; j < std::min(top, n); j++)
      plan.out_top_logprobs[size_t(row) * plan.top_width + j] = logits[tokens[j]] - normaliser;
  }
  int token = plan.targets[row];
  if (token < 0) {
    float* weights = own.sample.need(2 * size_t(n) + 16);
    float* changed = weights + n;
    const bool changes = plan.adjust_starts[row + 1] > plan.adjust_starts[row] || plan.masks[row] >= 0;
    if (changes) {
      std::copy(logits, logits + n, changed);
      for (int a = plan.adjust_starts[row]; a < plan.adjust_starts[row + 1]; a++) {
        float& at = changed[plan.adjust_tokens[a]];
        const float* values = plan.adjust_values + 3 * size_t(a);
        at = at * (at > 0 ? values[0] : values[1]) + values[2];
      }
      if (plan.masks[row] >= 0) {
        const uint32_t* bits = plan.mask_bits + size_t(plan.masks[row]) * plan.mask_words;
        for (i = 0; i < n; i++)
          if (!(bits[i / 32] >> (i % 32) & 1)) changed[i] = -INFINITY;
      }
    }
    float* values = changes ? changed : logits;
    token = plan.temperatures[row] <= 0 ? best_token(values, n) : draw(plan, row, values, n, weights);
  }
  plan.out_tokens[row] = token;
  plan.out_logprobs[row] = logits[token] - normaliser;
}

}  // namespace r1
