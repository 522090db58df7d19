// Greedy non-maximum suppression by label, of a batch of images. See hpvod_ops/ops/batched_nms.py
// for what it computes; this is the seam between the kernels and their callers.
#pragma once

#include "dtype.h"
#include "stream.h"

namespace hpvod {

struct BatchedNms {
  int64_t batch;          // N
  int64_t candidates;     // K, of an image
  int64_t count;          // D: so many are kept at most
  float threshold;        // a box goes if its IoU with a kept one of its label is above this
  const float* boxes;     // [N, K, 4]: x1, y1, x2, y2, both corners being pixels of the box
  const int64_t* labels;  // [N, K]
  const int64_t* order;   // [N, K]: the candidates, best first; what is no index is passed over
  const bool* valid;      // [N, K], or null; boxes that are not are no candidates
  int64_t* indices;       // [N, D]: of the kept ones, in that order, then zeros
  int32_t* counts;        // [N]: how many are kept
};

// CUDA (batched_nms.cu). A launch returns null, or CUDA's words for what went wrong.
const char* launch_batched_nms(const BatchedNms& params, Stream stream);

}  // namespace hpvod
