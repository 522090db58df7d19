// What the bindings of masked_conv2d for the CPU and for CUDA share: checks.
#pragma once

#include "../kernels/masked_conv2d.h"
#include "pixel_list.h"

namespace hpvod {

// Fills everything but the workspace. The packed weight's size is the backend's to check.
inline MaskedConv2d check_masked_conv2d(const Tensor& out, const Tensor& x, const Tensor& weight,
                                        const std::optional<Tensor>& bias,
                                        const std::optional<Tensor>& residual, const Tensor& pixels,
                                        const Tensor& count, const std::vector<int64_t>& kernel,
                                        int64_t stride, int64_t padding, int64_t dilation,
                                        bool relu) {
  const char* op = "masked_conv2d_";
  const DType dtype = check_out(op, out);
  check_map(op, "x", x, out);
  STD_TORCH_CHECK(x.size(0) == out.size(0), op, ": x must have out's batch; out is ",
                  shape_text(out), ", x is ", shape_text(x));
  STD_TORCH_CHECK(x.size(0) * x.size(2) * x.size(3) < (int64_t{1} << 29), op,
                  ": x has too many pixels: ", shape_text(x));
  STD_TORCH_CHECK(kernel.size() == 2 && kernel[0] > 0 && kernel[1] > 0 && stride > 0 &&
                      padding >= 0 && dilation > 0,
                  op, ": kernel, stride and dilation must be positive, padding not negative");
  STD_TORCH_CHECK(out.size(2) == output_size(x.size(2), kernel[0], stride, padding, dilation) &&
                      out.size(3) == output_size(x.size(3), kernel[1], stride, padding, dilation),
                  op, ": out must have the convolution's height and width; out is ",
                  shape_text(out), ", x is ", shape_text(x));
  STD_TORCH_CHECK(weight.dim() >= 1 && weight.is_contiguous() && weight.device() == out.device(),
                  op, ": weight must be contiguous and on out's device");
  const auto wide = dtype == DType::kFloat64 ? ScalarType::Double : ScalarType::Float;
  STD_TORCH_CHECK(
      !bias || (is_vector_of(*bias, wide, out) && bias->size(0) == out.size(1)), op,
      ": bias must be float32 (float64 for float64 maps) [out_channels] on out's device");
  if (residual) {
    check_map(op, "residual", *residual, out);
    for (int axis = 0; axis < 4; ++axis) {
      STD_TORCH_CHECK(residual->size(axis) == out.size(axis), op,
                      ": residual must have out's shape, not ", shape_text(*residual));
    }
  }
  check_pixels(op, pixels, count, out);
  check_apart(op, "x", x, out);
  return {{x.size(0), x.size(1), x.size(2), x.size(3), out.size(1), out.size(2), out.size(3),
           kernel[0], kernel[1], stride, padding, dilation, dtype},
          x.const_data_ptr(),
          weight.const_data_ptr(),
          pointer_or_null(bias),
          pointer_or_null(residual),
          out.mutable_data_ptr(),
          int_pointer(pixels),
          int_pointer(count),
          pixels.size(0),
          relu,
          nullptr};
}

}  // namespace hpvod
