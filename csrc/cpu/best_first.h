// The order in which batched_nms takes an image's candidates.
#pragma once

#include <cstdint>

namespace hpvod {

struct BestFirst {
  int64_t batch;        // N
  int64_t candidates;   // K, of an image, at most 2^30
  const float* scores;  // [N, K]
  const bool* valid;    // [N, K], or null: those that are candidates
  int64_t* order;       // [N, K]: of the valid ones, best first; then -1
};

// Of the images [begin, end). Of equal scores the lower index comes first; NaN is above all.
void best_first_cpu(const BestFirst& params, int64_t begin, int64_t end);

}  // namespace hpvod
