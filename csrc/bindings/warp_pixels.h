// What the bindings of warp_pixels for the CPU and for CUDA share: checks.
#pragma once

#include "../kernels/warp_pixels.h"
#include "pixel_list.h"

namespace hpvod {

inline WarpPixels check_warp_pixels(const Tensor& out, const Tensor& feature, const Tensor& flow,
                                    const std::optional<Tensor>& scale, const Tensor& pixels,
                                    const Tensor& count, int64_t ratio) {
  const char* op = "warp_pixels_";
  const DType dtype = check_out(op, out);
  const auto check_like_out = [&](const char* name, const Tensor& map) {
    check_map(op, name, map, out);
    for (int axis = 0; axis < 4; ++axis) {
      STD_TORCH_CHECK(map.size(axis) == out.size(axis), op, ": ", name,
                      " must have out's shape, not ", shape_text(map));
    }
  };
  check_like_out("feature", feature);
  if (scale) check_like_out("scale", *scale);
  STD_TORCH_CHECK(ratio > 0, op, ": ratio must be positive");
  STD_TORCH_CHECK(flow.dim() == 4 && flow.size(0) == out.size(0) && flow.size(1) == 2 &&
                      flow.is_contiguous() && flow.device() == out.device(),
                  op, ": flow must be [N, 2, h, w], contiguous, with out's N and device, not ",
                  shape_text(flow));
  STD_TORCH_CHECK(out.numel() == 0 || flow.numel() > 0, op, ": flow must not be empty");
  const auto flow_dtype = dtype_of(flow);
  STD_TORCH_CHECK(flow_dtype && (*flow_dtype == dtype || *flow_dtype == DType::kFloat32), op,
                  ": flow must have out's dtype, or be float32");
  check_pixels(op, pixels, count, out);
  check_apart(op, "feature", feature, out);
  return {out.size(0),
          out.size(1),
          out.size(2),
          out.size(3),
          flow.size(2),
          flow.size(3),
          ratio,
          dtype,
          *flow_dtype,
          feature.const_data_ptr(),
          flow.const_data_ptr(),
          pointer_or_null(scale),
          out.mutable_data_ptr(),
          int_pointer(pixels),
          int_pointer(count),
          pixels.size(0)};
}

}  // namespace hpvod
