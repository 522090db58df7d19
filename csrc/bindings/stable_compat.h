// The only file that knows the corners of torch's stable ABI.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "../kernels/dtype.h"
#include "../kernels/stream.h"
#include "../kernels/warp.h"

namespace hpvod {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string shape_text(const Tensor& tensor) {
  std::ostringstream text;
  text << "[";
  for (int64_t i = 0; i < tensor.dim(); ++i) text << (i ? ", " : "") << tensor.size(i);
  text << "]";
  return text.str();
}

inline std::optional<DType> dtype_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return DType::kFloat32;
    case ScalarType::Half:
      return DType::kFloat16;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    case ScalarType::Double:
      return DType::kFloat64;
    default:
      return std::nullopt;
  }
}

// A map that is not contiguous but has its channels side by side counts as channels_last,
// a slice of the channels of such a map included. hpvod_ops/ops/layout.py says the same.
inline Layout layout_of(const Tensor& map) {
  return !map.is_contiguous() && map.stride(1) == 1 ? Layout::kChannelsLast : Layout::kContiguous;
}

inline MemoryFormat memory_format(Layout layout) {
  return layout == Layout::kChannelsLast ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
}

// The same values, dense in the layout; the tensor itself where it already is.
inline Tensor dense(const Tensor& map, Layout layout) {
  return torch::stable::contiguous(map, memory_format(layout));
}

inline Tensor empty_map(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes,
                        Layout layout) {
  return torch::stable::empty(sizes, like.scalar_type(), std::nullopt, like.device(), std::nullopt,
                              memory_format(layout));
}

inline Tensor empty_bytes(const Tensor& like, int64_t bytes) {
  const int64_t sizes[] = {bytes};
  return torch::stable::empty({sizes, 1}, ScalarType::Byte, std::nullopt, like.device());
}

// What an op returns in place of a gradient that was not asked for.
inline Tensor no_gradient(const Tensor& like) {
  const int64_t sizes[] = {0};
  return torch::stable::new_empty(like, {sizes, 1});
}

// Whether the map is dense in channels_last. A side of length 1 may have any stride.
inline bool is_channels_last(const Tensor& map) {
  int64_t dense_stride = 1;
  for (const int64_t axis : {1, 3, 2, 0}) {
    if (map.size(axis) != 1 && map.stride(axis) != dense_stride) return false;
    dense_stride *= map.size(axis);
  }
  return true;
}

inline bool is_vector_of(const Tensor& tensor, ScalarType type, const Tensor& beside) {
  return tensor.dim() == 1 && tensor.scalar_type() == type && tensor.is_contiguous() &&
         tensor.device() == beside.device();
}

#ifdef USE_CUDA
inline Stream current_cuda_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<Stream>(stream);
}
#endif

}  // namespace hpvod
