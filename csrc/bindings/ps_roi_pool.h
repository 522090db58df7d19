// What the bindings of ps_roi_pool for the CPU and for CUDA share: checks.
#pragma once

#include "../kernels/ps_roi_pool.h"
#include "../kernels/roi_bins.h"
#include "stable_compat.h"

namespace hpvod {

// The Python function words the errors for its users; these checks keep a direct call of
// torch.ops.hpvod from reading or writing memory that is not the tensors' own.
inline void check_ps_roi_pool(const Tensor& score_maps, const Tensor& rois, int64_t groups,
                              int64_t stride) {
  const char* op = "ps_roi_pool";
  STD_TORCH_CHECK(groups > 0 && groups <= kMaxGroups, op, ": groups must be 1 to ", kMaxGroups,
                  ", not ", groups);
  STD_TORCH_CHECK(stride > 0 && stride <= kMaxStride, op, ": stride must be 1 to ", kMaxStride,
                  ", not ", stride);
  STD_TORCH_CHECK(score_maps.dim() == 4 && score_maps.size(1) % (groups * groups) == 0, op,
                  ": score_maps must be [N, C * groups * groups, h, w], not ",
                  shape_text(score_maps));
  // A pixel's index within the maps is an int in the kernels.
  STD_TORCH_CHECK(score_maps.size(0) * score_maps.size(2) * score_maps.size(3) < (int64_t{1} << 30),
                  op, ": score_maps has too many pixels: ", shape_text(score_maps));
  STD_TORCH_CHECK(dtype_of(score_maps), op,
                  ": score_maps must be float32, float16, bfloat16 or float64");
  STD_TORCH_CHECK(rois.dim() == 2 && rois.size(1) == 5 && rois.scalar_type() == ScalarType::Float &&
                      rois.device() == score_maps.device(),
                  op, ": rois must be float32 [R, 5] on score_maps' device, not ",
                  shape_text(rois));
}

inline Tensor empty_pools(const Tensor& score_maps, const Tensor& rois, int64_t groups) {
  const int64_t channels = score_maps.size(1) / (groups * groups);
  const int64_t sizes[] = {rois.size(0), channels, groups, groups};
  return empty_map(score_maps, {sizes, 4}, Layout::kContiguous);
}

// Of dense score maps and contiguous rois.
inline PsRoiPool ps_roi_pool_params(const Tensor& score_maps, Layout layout, const Tensor& rois,
                                    int64_t groups, int64_t stride, const Tensor& output) {
  const int64_t channels = score_maps.size(1), height = score_maps.size(2);
  const int64_t width = score_maps.size(3);
  const bool channels_last = layout == Layout::kChannelsLast;
  return {score_maps.size(0),
          output.size(1),
          height,
          width,
          rois.size(0),
          groups,
          stride,
          channels_last ? 1 : height * width,
          channels_last ? channels : 1,
          *dtype_of(score_maps),
          score_maps.const_data_ptr(),
          static_cast<const float*>(rois.const_data_ptr()),
          output.mutable_data_ptr()};
}

}  // namespace hpvod
