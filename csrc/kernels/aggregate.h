// Aggregation of frames, weighted by the similarity of their embeddings (Eq. 2 and 3). See
// hpvod_ops/ops/aggregate.py for what it computes; this is the seam between the kernels and their
// callers.
#pragma once

#include "dtype.h"
#include "stream.h"

namespace hpvod {

constexpr int kMaxAggregateFrames = 64;  // CUDA kernels take the pointers by value

// Every map is dense in channels_last (the CPU has kernels for contiguous ones too) and of one
// dtype; the current frame's come last.
struct Aggregate {
  int64_t frames;              // T
  int64_t pixels;              // N * H * W
  int64_t channels;            // C
  int64_t embedding_channels;  // E
  DType dtype;
  const void* const* features;    // T times [N, H, W, C]; this and the next array on the host
  const void* const* embeddings;  // T times [N, H, W, E]
  void* output;                   // [N, H, W, C]
};

// CUDA (aggregate.cu). A launch returns null, or CUDA's words for what went wrong.
const char* launch_aggregate(const Aggregate& params, Stream stream);

}  // namespace hpvod
