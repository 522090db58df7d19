// What the bindings of masked_max_pool2d for the CPU and for CUDA share: checks.
#pragma once

#include "../kernels/masked_max_pool2d.h"
#include "pixel_list.h"

namespace hpvod {

inline MaskedMaxPool2d check_masked_max_pool2d(const Tensor& out, const Tensor& x,
                                               const Tensor& pixels, const Tensor& count,
                                               int64_t kernel, int64_t stride, int64_t padding) {
  const char* op = "masked_max_pool2d_";
  const DType dtype = check_out(op, out);
  check_map(op, "x", x, out);
  STD_TORCH_CHECK(x.size(0) == out.size(0) && x.size(1) == out.size(1), op,
                  ": x must have out's batch and channels; out is ", shape_text(out), ", x is ",
                  shape_text(x));
  STD_TORCH_CHECK(kernel > 0 && stride > 0 && padding >= 0 && 2 * padding <= kernel, op,
                  ": kernel and stride must be positive, padding at most half the kernel");
  STD_TORCH_CHECK(out.numel() == 0 || x.numel() > 0, op, ": x has no pixels: ", shape_text(x));
  for (const int axis : {2, 3}) {
    STD_TORCH_CHECK(out.size(axis) == output_size(x.size(axis), kernel, stride, padding, 1), op,
                    ": out must have the pooled height and width; out is ", shape_text(out),
                    ", x is ", shape_text(x));
  }
  check_pixels(op, pixels, count, out);
  check_apart(op, "x", x, out);
  return {x.size(0),
          x.size(1),
          x.size(2),
          x.size(3),
          out.size(2),
          out.size(3),
          kernel,
          stride,
          padding,
          dtype,
          x.const_data_ptr(),
          out.mutable_data_ptr(),
          int_pointer(pixels),
          int_pointer(count),
          pixels.size(0)};
}

}  // namespace hpvod
