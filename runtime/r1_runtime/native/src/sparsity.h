// Selection of the cache units (16 slots) that a query row reads, from summaries of the units.
//
// 1. Coarse scores: the query times each unit's mean key, and more where the unit's keys differ: a unit whose
// mean hides one matching key counts. 2. A share of the units is kept by score, and of
// those the smallest set that holds a share of the coarse mass, within bounds. The first units (sinks) and
// the last ones are always read. r1_runtime/sparsity/reference.py is the same policy in torch.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "simd.h"

extern "C" {

// Plain structure of the C interface; r1_runtime/backends/cpu/library.py mirrors it.
struct R1Sparsity {
  double keep;                 // share of the units kept by coarse scores
  double drop_low, drop_high;  // share of the kept units that the second stage drops
  double mass;                 // share of the coarse mass to hold; 0 drops `drop_low` always
  double spread;               // weight of a unit's spread in its coarse score
  int32_t from_context;            // tokens from which a row attends sparsely; 0 is off
  int32_t sink_units, last_units;  // units that sparse heads always read
  int32_t window_units;            // last units that window heads read, beside the sinks
  int32_t correct;                 // add the estimate of what was dropped
  int32_t prompts;                 // prompts attend sparsely, too
  const uint8_t* modes;            // [layers][key heads]: HeadMode
};

}  // extern "C"

namespace r1 {

enum HeadMode : uint8_t { HEAD_DENSE = 0, HEAD_SPARSE, HEAD_WINDOW };

struct Sparsity {
  R1Sparsity options{};
  std::vector<uint8_t> modes;
  bool values = false;  // summaries have mean values, for estimates of what is not read

  bool on() const { return options.from_context > 0; }
};

// The share of a count, rounded up; as `_ceil` of policy.py.
inline int share_of(double share, int count) { return std::min(count, int(std::ceil(share * count - 1e-6))); }

// How many of `count` ranked units are read. `mass_of(i)` is the coarse mass of the i-th in rank order.
template <class MassOf>
inline int selected_count(const R1Sparsity& o, int count, MassOf mass_of) {
  const int kept = share_of(o.keep, count), most = share_of(1.0 - o.drop_low, kept);
  if (o.mass <= 0) return most;
  const int least = share_of(1.0 - o.drop_high, kept);
  double total = 0, held = 0;
  for (int i = 0; i < kept; i++) total += mass_of(i);
  int taken = 0;
  while (taken < most && held < o.mass * total) held += mass_of(taken++);
  return std::max(least, taken);
}

// Marks in `chosen` [count] the units to read, by their coarse mass; equal masses rank by position.
// Masses are not negative, so that their bits order as they do.
inline void select_units(const R1Sparsity& o, const float* mass, int count, std::vector<uint64_t>& ranked,
                         uint8_t* chosen) {
  constexpr int SHIFT = 18, BUCKETS = 1 << (32 - SHIFT);  // sign, exponent and 5 bits of mantissa
  const int kept = share_of(o.keep, count);
  std::fill(chosen, chosen + count, uint8_t(0));
  ranked.clear();
  if (kept == 0) return;
  auto bits_of = [&](int u) {
    uint32_t bits;
    memcpy(&bits, mass + u, 4);
    return bits;
  };
  // Only buckets from that of the kept-th unit on are sorted.
  static thread_local std::vector<int32_t> counts(BUCKETS / 2);
  int lowest = BUCKETS / 2, highest = 0;
  for (int u = 0; u < count; u++) {
    const int bucket = int(bits_of(u) >> SHIFT) & (BUCKETS / 2 - 1);
    counts[bucket]++;
    lowest = std::min(lowest, bucket);
    highest = std::max(highest, bucket);
  }
  int bucket = highest, above = 0;
  while (above + counts[bucket] < kept) above += counts[bucket--];
  std::fill(counts.begin() + lowest, counts.begin() + highest + 1, 0);
  const uint32_t bound = uint32_t(bucket) << SHIFT;
  for (int u = 0; u < count; u++)
    if (bits_of(u) >= bound) ranked.push_back(uint64_t(bits_of(u)) << 32 | uint32_t(~u));
  std::sort(ranked.begin(), ranked.end(), std::greater<uint64_t>());
  auto unit = [&](int i) { return int(~uint32_t(ranked[i])); };
  const int taken = selected_count(o, count, [&](int i) { return mass[unit(i)]; });
  for (int i = 0; i < taken; i++) chosen[unit(i)] = 1;
}

}  // namespace r1
