// Backward bilinear warp (Eq. 1), forward and backward. See hpvod_ops/ops/warp.py
// for what it computes; this is the seam between the kernels and their callers.
#pragma once

#include "dtype.h"
#include "stream.h"

namespace hpvod {

enum class Layout { kContiguous, kChannelsLast };

// Every tensor is dense, on one device, and all maps of C channels share one layout.
struct WarpShape {
  int64_t batch;          // N, of flow, scale and output
  int64_t feature_batch;  // N, or 1: the one feature serves every flow
  int64_t channels;       // C
  int64_t height;         // H
  int64_t width;          // W
  Layout layout;          // of every [*, C, H, W] map
  DType dtype;            // of every [*, C, H, W] map
  DType flow_dtype;       // dtype, or kFloat32; the flow itself is always contiguous
};

struct WarpForward {
  WarpShape shape;
  const void* feature;  // [N or 1, C, H, W]
  const void* flow;     // [N, 2, H, W], (dx, dy) in pixels of the feature map
  const void* scale;    // [N, C, H, W], or null
  void* output;         // [N, C, H, W]
};

struct WarpBackward {
  WarpShape shape;
  const void* feature;      // [N or 1, C, H, W]
  const void* flow;         // [N, 2, H, W]
  const void* scale;        // [N, C, H, W], or null
  const void* grad_output;  // [N, C, H, W]
  void* grad_feature;       // [N or 1, C, H, W], or null where not wanted
  void* grad_flow;          // [N, 2, H, W], or null
  void* grad_scale;         // [N, C, H, W], or null
  void* workspace;          // as many bytes as the backend asks for
};

// CUDA (warp.cu). A launch returns null, or CUDA's words for what went wrong.
const char* launch_warp_forward(const WarpForward& params, Stream stream);
const char* launch_warp_backward(const WarpBackward& params, Stream stream);
int64_t warp_backward_workspace(const WarpShape& shape);

}  // namespace hpvod
