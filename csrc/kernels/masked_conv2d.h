// A convolution at listed pixels (Section 3.2). See hpvod_ops/ops/masked_conv2d.py for what it
// computes; this is the seam between the kernels and their callers.
#pragma once

#include "dtype.h"
#include "stream.h"

namespace hpvod {

struct MaskedConv2dShape {
  int64_t batch;         // N
  int64_t in_channels;   // I
  int64_t in_height;     // H
  int64_t in_width;      // W
  int64_t out_channels;  // O
  int64_t out_height;    // H'
  int64_t out_width;     // W'
  int64_t kernel_height;
  int64_t kernel_width;
  int64_t stride;  // the same in both directions, as are the two below
  int64_t padding;
  int64_t dilation;
  DType dtype;  // of the maps
};

// Every map is dense in channels_last.
struct MaskedConv2d {
  MaskedConv2dShape shape;
  const void* input;      // [N, H, W, I]
  const void* weight;     // packed; CUDA: [O, kernel_height, kernel_width, I] in the maps' dtype
  const void* bias;       // [O] in accumulate_t of the maps' dtype, or null
  const void* residual;   // [N, H', W', O], added before the ReLU; may be `output`; or null
  void* output;           // [N, H', W', O], written at the listed pixels only
  const int32_t* pixels;  // [capacity], different indices into [N, H', W']
  const int32_t* count;   // [1]: how many of them are listed
  int64_t capacity;
  bool relu;
  void* workspace;  // as many bytes as the backend asks for
};

// CUDA (masked_conv2d.cu). A launch returns null, or CUDA's words for what went wrong.
const char* launch_masked_conv2d(const MaskedConv2d& params, Stream stream);
int64_t masked_conv2d_workspace(const MaskedConv2d& params);

}  // namespace hpvod
