// Max pooling at listed pixels. See hpvod_ops/ops/masked_max_pool2d.py for what it computes; this
// is the seam between the kernels and their callers.
#pragma once

#include "dtype.h"
#include "stream.h"

namespace hpvod {

// Every map is dense in channels_last.
struct MaskedMaxPool2d {
  int64_t batch;       // N
  int64_t channels;    // C
  int64_t in_height;   // H
  int64_t in_width;    // W
  int64_t out_height;  // H'
  int64_t out_width;   // W'
  int64_t kernel;      // the same in both directions, as are the two below
  int64_t stride;
  int64_t padding;        // at most half the kernel: every window holds a pixel
  DType dtype;            // of the maps
  const void* input;      // [N, H, W, C]
  void* output;           // [N, H', W', C], written at the listed pixels only
  const int32_t* pixels;  // [capacity], different indices into [N, H', W']
  const int32_t* count;   // [1]: how many of them are listed
  int64_t capacity;
};

// CUDA (masked_max_pool2d.cu). A launch returns null, or CUDA's words for what went wrong.
const char* launch_masked_max_pool2d(const MaskedMaxPool2d& params, Stream stream);

}  // namespace hpvod
