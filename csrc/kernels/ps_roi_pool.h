// Position-sensitive RoI average pooling. See hpvod_ops/ops/ps_roi_pool.py for what it computes;
// this is the seam between the kernels and their callers.
#pragma once

#include "dtype.h"
#include "stream.h"

namespace hpvod {

// The score maps are dense, in either layout: contiguous (channel_step h * w, pixel_step 1) or
// channels_last (channel_step 1, pixel_step C * groups * groups).
struct PsRoiPool {
  int64_t batch;     // N
  int64_t channels;  // C, of the result
  int64_t height;    // h
  int64_t width;     // w
  int64_t rois;      // R
  int64_t groups;    // bins a side
  int64_t stride;    // image pixels a feature pixel
  int64_t channel_step;
  int64_t pixel_step;
  DType dtype;             // of score_maps and output
  const void* score_maps;  // [N, C, groups, groups, h, w]
  const float* boxes;      // [R, 5]: image index, x1, y1, x2, y2
  void* output;            // [R, C, groups, groups]
};

// CUDA (ps_roi_pool.cu). A launch returns null, or CUDA's words for what went wrong.
const char* launch_ps_roi_pool(const PsRoiPool& params, Stream stream);

}  // namespace hpvod
