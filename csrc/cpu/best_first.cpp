// Scores and indices are sorted together, as one number each: that compares in one instruction, and
// makes the sort stable.
#include "best_first.h"

#include <algorithm>
#include <cstring>

namespace hpvod {
namespace {

// Rises where the score falls.
uint32_t rank_of(float score) {
  if (score != score) return 0;
  score += 0.0f;  // -0 is no less than 0
  uint32_t bits;
  memcpy(&bits, &score, sizeof(bits));
  const uint32_t sign = 0x80000000u;
  return bits & sign ? bits : ~(bits | sign);
}

}  // namespace

void best_first_cpu(const BestFirst& params, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    const int64_t first = n * params.candidates;
    int64_t* order = params.order + first;
    auto* keys = reinterpret_cast<uint64_t*>(order);  // the same memory, unsigned
    int64_t count = 0;
    for (int64_t k = 0; k < params.candidates; ++k) {
      if (params.valid && !params.valid[first + k]) continue;
      keys[count++] = uint64_t{rank_of(params.scores[first + k])} << 32 | static_cast<uint64_t>(k);
    }
    std::sort(keys, keys + count);
    for (int64_t k = 0; k < count; ++k) order[k] = static_cast<uint32_t>(keys[k]);
    std::fill(order + count, order + params.candidates, int64_t{-1});
  }
}

}  // namespace hpvod
