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

inline float largest_logit(const float* logits, int n) {
  v8 peak = splat(-INFINITY);
  int i = 0;
  for (; i + 8 <= n; i += 8) peak = max8(load8(logits + i), peak);
  float most = largest8(peak);
  for (; i < n; i++) most = logits[i] > most ? logits[i] : most;
  return most;
}

// The first token whose logit is `value`.
inline int first_equal(const float* logits, int n, float value) {
  int i = 0;
  for (; i + 8 <= n; i += 8)
    if (any8(load8(logits + i) == splat(value))) break;
  for (; i < n; i++)
    if (logits[i] == value) return i;
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

// Tokens that may be drawn, in ascending order. `tokens` is null where place i holds token i.
struct Candidates {
  float* weights;  // exp((logit - largest) / temperature), at most 1; room for a multiple of 8
  const int32_t* tokens;
  int count;
  int token(int place) const { return tokens ? tokens[place] : place; }
};

// The k-th largest logit.
inline float kth_largest(const float* logits, int n, int k, float* spare) {
  constexpr int kFew = 256;  // up to here a heap of the best is cheaper than a partition of a copy
  if (k > kFew) {
    std::copy(logits, logits + n, spare);
    std::nth_element(spare, spare + k - 1, spare + n, std::greater<float>());
    return spare[k - 1];
  }
  std::copy(logits, logits + k, spare);
  std::make_heap(spare, spare + k, std::greater<float>());
  auto offer = [&](float value) {
    if (!(value > spare[0])) return;
    std::pop_heap(spare, spare + k, std::greater<float>());
    spare[k - 1] = value;
    std::push_heap(spare, spare + k, std::greater<float>());
  };
  int i = k;
  for (; i + 8 <= n; i += 8)
    if (any8(load8(logits + i) > splat(spare[0])))
      for (int j = 0; j < 8; j++) offer(logits[i + j]);
  for (; i < n; i++) offer(logits[i]);
  return spare[0];
}

// Copies the places whose value is at least `least` to the front; returns their number.
template <class Value>
inline int gather(const float* values, int n, float least, int32_t* places, Value value_of) {
  int count = 0;
  for (int i = 0; i < n; i += 8) {
    const int end = std::min(i + 8, n);
    if (end == i + 8 && !any8(load8(values + i) >= splat(least))) continue;
    for (int j = i; j < end; j++) {
      places[count] = j;  // overwritten unless it counts: no branch to predict
      count += value_of(j) >= least;
    }
  }
  return count;
}

inline double sum_of(const float* weights, int n) {
  v8 sums = splat(0.0f);
  double total = 0;
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    sums += load8(weights + i);
    if (i % 4096 == 4088) total += sum8(sums), sums = splat(0.0f);
  }
  for (; i < n; i++) total += weights[i];
  return total + sum8(sums);
}

struct Cut {  // candidates above the weight stay, and equal ones up to the place
  float weight = 0;
  int place = 0;
};

inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

// The smallest set of the largest weights whose sum reaches `wanted`, without a sort: the bits of a
// positive float are ordered like the float, so the border is found by histograms of the bits, first of
// the whole range in steps of an eighth of an octave, then of the step that has the border.
// No weight below `least` is in the set. `border` has room for all places.
inline Cut nucleus(const Candidates& c, double wanted, float least, int32_t* border) {
  constexpr int kShift = 20, kFine = 10, kTables = 4, kSteps = (0x3f800000 >> kShift) + 1;
  double mass[kTables][kSteps], fine[1 << kFine];
  const int base = int(bits_of(least) >> kShift), steps = kSteps - base;
  for (auto& table : mass) std::fill(table, table + steps, 0.0);
  auto step_of = [&](float w) { return std::max(int(bits_of(w) >> kShift) - base, 0); };
  int i = 0;
  for (; i + kTables <= c.count; i += kTables)  // tables in turn: an addition need not wait for the last
    for (int j = 0; j < kTables; j++) mass[j][step_of(c.weights[i + j])] += c.weights[i + j];
  for (; i < c.count; i++) mass[0][step_of(c.weights[i])] += c.weights[i];
  auto mass_of = [&](int b) { return (mass[0][b] + mass[1][b]) + (mass[2][b] + mass[3][b]); };
  double above = 0;
  int b = steps - 1;
  for (; b > 0 && above + mass_of(b) < wanted; b--) above += mass_of(b);

  int members = 0;
  for (i = 0; i < c.count; i++) {
    border[members] = i;
    members += step_of(c.weights[i]) == b && c.weights[i] > 0;
  }
  std::fill(fine, fine + (1 << kFine), 0.0);
  auto fine_of = [&](int place) { return int(bits_of(c.weights[place]) >> (kShift - kFine)) & ((1 << kFine) - 1); };
  for (int m = 0; m < members; m++) fine[fine_of(border[m])] += c.weights[border[m]];
  int f = (1 << kFine) - 1;
  if (b > 0)  // the lowest step also has what is below it, which its fine steps do not order
    for (; f > 0 && above + fine[f] < wanted; f--) above += fine[f];
  const int all = members;
  members = 0;
  for (int m = 0; m < all; m++) {
    const int place = border[m];
    border[members] = place;
    members += b == 0 || fine_of(place) == f;
  }
  std::sort(border, border + members, [&](int p, int q) {
    return c.weights[p] != c.weights[q] ? c.weights[p] > c.weights[q] : p < q;
  });
  Cut cut;
  for (int m = 0; m < members; m++) {
    cut = {c.weights[border[m]], border[m]};
    above += cut.weight;
    if (above >= wanted) break;
  }
  return cut;
}

// The first place whose cumulated weight exceeds `share` of the sum of all that stay.
inline int draw_place(const Candidates& c, const Cut& cut, float least, double share, double* sums) {
  constexpr int kBlock = 64;
  const v8 floor = splat(std::max(cut.weight, least));
  const bool equal_may_stay = cut.weight >= least;
  double total = 0;
  const int blocks = ceil_div(c.count, kBlock);
  for (int at = c.count; at < round_up(c.count, 8); at++) c.weights[at] = 0;
  for (int block = 0; block < blocks; block++) {
    v8 sum = splat(0.0f);
    const int end = std::min(round_up(c.count, 8), (block + 1) * kBlock);
    for (int i = block * kBlock; i < end; i += 8) {
      const v8 w = load8(c.weights + i);
      // Places up to the cut's: equal weights stay; after it, larger ones alone.
      v8i stays = w > floor;
      if (equal_may_stay ? i <= cut.place : true) {
        v8i equal = w == floor;
        if (equal_may_stay && i + 8 > cut.place) equal &= iota8() <= cut.place - i;
        stays |= equal;
      }
      const v8 left = (v8)((v8i)w & stays);
      store8(c.weights + i, left);
      sum += left;
    }
    sums[block] = sum8(sum);
    total += sums[block];
  }
  const double wanted = share * total;
  double sum = 0;
  int block = 0, last = 0;
  for (; block + 1 < blocks && sum + sums[block] <= wanted; block++) sum += sums[block];
  for (int i = block * kBlock; i < c.count; i++) {
    if (c.weights[i] <= 0) continue;
    sum += c.weights[i];
    last = i;
    if (sum > wanted) return i;
  }
  if (c.weights[last] > 0) return last;
  for (int i = c.count - 1; i > 0; i--)  // rounding left nothing in the last block
    if (c.weights[i] > 0) return i;
  return 0;
}

inline int draw(const R1Plan& plan, int row, const float* logits, int n, float most, Scratch& own) {
  const float inverse = 1.0f / std::max(plan.temperatures[row], 1e-5f);
  const int k = plan.top_k[row];
  float* weights = own.sample.need(size_t(n) + 16);
  int32_t* places = own.places.need(2 * size_t(n) + 16);
  Candidates c{weights, nullptr, n};
  auto weigh = [&](auto logit) {
    int i = 0;
    for (; i + 8 <= c.count; i += 8) store8(weights + i, exp8((logit(i) - most) * inverse));
    if (i == c.count) return;
    store8(weights + i, exp8((logit(i) - most) * inverse));  // the rest is not read
  };
  if (k > 0 && k < n) {
    const float least = kth_largest(logits, n, k, weights);
    c.count = gather(logits, n, least, places, [&](int i) { return logits[i]; });
    c.tokens = places;
    weigh([&](int i) {
      v8 some = splat(-INFINITY);
      for (int j = 0; j < 8 && i + j < c.count; j++) some[j] = logits[places[i + j]];
      return some;
    });
  } else {
    weigh([&](int i) {
      if (i + 8 <= n) return load8(logits + i);
      v8 some = splat(-INFINITY);
      for (int j = 0; i + j < n; j++) some[j] = logits[i + j];
      return some;
    });
  }
  Cut cut;
  const double top_p = plan.top_p[row];
  if (top_p < 1) {
    const double total = sum_of(weights, c.count);
    // Weights below this sum to less than what top-p leaves out, so none of them is in the set.
    const float least = std::max(float((1 - top_p) * total / c.count * .999), 1e-30f);
    if (!c.tokens) {
      const int some = gather(weights, n, least, places, [&](int i) { return weights[i]; });
      if (some < n / 2) {
        for (int i = 0; i < some; i++) weights[i] = weights[places[i]];
        c.tokens = places;
        c.count = some;
      }
    }
    cut = nucleus(c, std::max(top_p * total, 1e-30), least, places + n);
  }
  const double share = random_of(plan.seeds[row], plan.counters[row]);
  return c.token(draw_place(c, cut, plan.min_p[row], share, own.sums.need(size_t(n) / 64 + 2)));
}

// Logarithm of the sum of exp(logit).
inline float log_of_sum(const float* logits, int n, float most) {
  v8 sums = splat(0.0f);
  double total = 0;
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    sums += exp8(load8(logits + i) - most);
    if (i % 4096 == 4088) total += sum8(sums), sums = splat(0.0f);
  }
  for (; i < n; i++) total += std::exp(logits[i] - most);
  return most + float(std::log(total + sum8(sums)));
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
  plan.out_logprobs[row] = NAN;
  if (wrong != 0) {
    plan.out_tokens[row] = -1;
    return;
  }
  const bool scores = plan.top_counts[row] >= 0;
  const float normaliser = scores ? log_of_sum(logits, n, most) : 0;
  const int top = std::min(plan.top_counts[row], plan.top_width);
  if (top > 0) {
    int32_t* tokens = plan.out_top_tokens + size_t(row) * plan.top_width;
    best_tokens(logits, n, std::min(top, n), tokens);
    for (int j = 0; j < std::min(top, n); j++)
      plan.out_top_logprobs[size_t(row) * plan.top_width + j] = logits[tokens[j]] - normaliser;
  }
  int token = plan.targets[row];
  if (token < 0) {
    const bool changes = plan.adjust_starts[row + 1] > plan.adjust_starts[row] || plan.masks[row] >= 0;
    float* values = logits;
    if (changes) {
      float* changed = values = own.changed.need(n);
      std::copy(logits, logits + n, changed);
      for (int a = plan.adjust_starts[row]; a < plan.adjust_starts[row + 1]; a++) {
        float& at = changed[plan.adjust_tokens[a]];
        const float* change = plan.adjust_values + 3 * size_t(a);
        at = at * (at > 0 ? change[0] : change[1]) + change[2];
      }
      if (plan.masks[row] >= 0) {
        const uint32_t* bits = plan.mask_bits + size_t(plan.masks[row]) * plan.mask_words;
        for (i = 0; i < n; i++)
          if (!(bits[i / 32] >> (i % 32) & 1)) changed[i] = -INFINITY;
      }
    }
    if (changes) most = largest_logit(values, n);
    if (most == -INFINITY) token = -1;  // no token is allowed
    else if (plan.temperatures[row] > 0) token = draw(plan, row, values, n, most, own);
    else token = first_equal(values, n, most);
  }
  plan.out_tokens[row] = token;
  if (token >= 0 && scores) plan.out_logprobs[row] = logits[token] - normaliser;
}

}  // namespace r1
