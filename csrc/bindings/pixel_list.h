// The maps and lists of the ops that compute at listed pixels: what their bindings check alike.
#pragma once

#include "stable_compat.h"

namespace hpvod {

// The Python functions word the errors for their users; these checks keep a direct call of
// torch.ops.hpvod from reading or writing memory that is not the tensors' own.
inline void check_map(const char* op, const char* name, const Tensor& map, const Tensor& out) {
  STD_TORCH_CHECK(map.dim() == 4 && is_channels_last(map), op, ": ", name,
                  " must be a map that is dense in channels_last, not ", shape_text(map));
  STD_TORCH_CHECK(map.scalar_type() == out.scalar_type() && map.device() == out.device(), op, ": ",
                  name, " must have out's dtype and device");
}

inline DType check_out(const char* op, const Tensor& out) {
  check_map(op, "out", out, out);
  // A pixel's index within the map is an int in the kernels.
  STD_TORCH_CHECK(out.size(0) * out.size(2) * out.size(3) < (int64_t{1} << 29), op,
                  ": out has too many pixels: ", shape_text(out));
  const auto dtype = dtype_of(out);
  STD_TORCH_CHECK(dtype, op, ": out must be float32, float16, bfloat16 or float64");
  return *dtype;
}

inline void check_pixels(const char* op, const Tensor& pixels, const Tensor& count,
                         const Tensor& out) {
  STD_TORCH_CHECK(is_vector_of(pixels, ScalarType::Int, out), op,
                  ": pixels must be int32 [capacity], contiguous and on out's device");
  STD_TORCH_CHECK(pixels.size(0) <= out.size(0) * out.size(2) * out.size(3), op,
                  ": pixels has room for more pixels than out has: it lists another layer's");
  STD_TORCH_CHECK(is_vector_of(count, ScalarType::Int, out) && count.size(0) == 1, op,
                  ": count must be int32 [1] on out's device");
}

// What is read at other pixels than it is written at cannot be written in place.
inline void check_apart(const char* op, const char* name, const Tensor& map, const Tensor& out) {
  STD_TORCH_CHECK(out.numel() == 0 || map.const_data_ptr() != out.const_data_ptr(), op, ": ", name,
                  " must not be out");
}

// Of a convolution or a pooling; not below 0.
inline int64_t output_size(int64_t size, int64_t taps, int64_t stride, int64_t padding,
                           int64_t dilation) {
  const int64_t room = size + 2 * padding - dilation * (taps - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

inline const int32_t* int_pointer(const Tensor& tensor) {
  return static_cast<const int32_t*>(tensor.const_data_ptr());
}

inline const void* pointer_or_null(const std::optional<Tensor>& tensor) {
  return tensor ? tensor->const_data_ptr() : nullptr;
}

}  // namespace hpvod
