// Backward bilinear warp (Eq. 1) at listed pixels of a layer. See hpvod_ops/ops/warp_pixels.py for
// what it computes; this is the seam between the kernels and their callers.
#pragma once

#include "dtype.h"
#include "stream.h"

namespace hpvod {

// Every map of C channels is dense in channels_last. The flow is that of a coarser map: at pixel
// (y, x) it is ratio * flow(y / ratio, x / ratio), bilinear between the flow's pixels and clamped
// at its border, in pixels of the layer.
struct WarpPixels {
  int64_t batch;          // N
  int64_t channels;       // C
  int64_t height;         // H
  int64_t width;          // W
  int64_t flow_height;    // h
  int64_t flow_width;     // w
  int64_t ratio;          // pixels of the layer a pixel of the flow, in each direction
  DType dtype;            // of the maps
  DType flow_dtype;       // dtype, or kFloat32
  const void* feature;    // [N, H, W, C]
  const void* flow;       // [N, 2, h, w], contiguous: (dx, dy) in its own pixels
  const void* scale;      // [N, H, W, C], or null
  void* output;           // [N, H, W, C], written at the listed pixels only
  const int32_t* pixels;  // [capacity], different indices into [N, H, W]
  const int32_t* count;   // [1]: how many of them are listed
  int64_t capacity;
};

// CUDA (warp_pixels.cu). A launch returns null, or CUDA's words for what went wrong.
const char* launch_warp_pixels(const WarpPixels& params, Stream stream);

}  // namespace hpvod
