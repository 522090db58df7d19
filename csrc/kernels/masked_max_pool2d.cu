// Launches the kernel of `masked_max_pool2d`: checks what its indices assume, and shapes grids.
#include "launcher.h"
#include "masked_max_pool2d.cuh"
#include "masked_max_pool2d.h"

namespace hpvod {
namespace {

const char* check(const MaskedMaxPool2d& params) {
  if (!is_index({params.batch, params.in_height, params.in_width}) ||
      !is_index({params.batch, params.out_height, params.out_width})) {
    return "N * H * W must not exceed 2^30";
  }
  if (!is_index({params.channels}) || !is_index({params.capacity})) {
    return "neither C nor the capacity of the list must exceed 2^30";
  }
  if (params.stride < 1 || params.padding < 0 || params.padding >= params.kernel ||
      params.kernel > kMaxIndex / 2) {
    return "kernel must exceed padding, and stride be at least 1";
  }
  const int64_t last_row = (params.out_height - 1) * params.stride - params.padding;
  const int64_t last_column = (params.out_width - 1) * params.stride - params.padding;
  if (params.stride > kMaxIndex || last_row >= params.in_height || last_column >= params.in_width) {
    return "a window lies outside the input";
  }
  return nullptr;
}

template <typename T>
const char* launch_typed(const MaskedMaxPool2d& params, Stream stream) {
  const auto* input = static_cast<const T*>(params.input);
  auto* output = static_cast<T*>(params.output);
  const PixelList list{params.pixels, params.count, static_cast<int>(params.capacity)};
  const MaxPoolSize size{static_cast<int>(params.channels),  static_cast<int>(params.in_height),
                         static_cast<int>(params.in_width),  static_cast<int>(params.out_height),
                         static_cast<int>(params.out_width), static_cast<int>(params.kernel),
                         static_cast<int>(params.stride),    static_cast<int>(params.padding)};
  const auto launch_vectors = [&](auto kernel, int width) {
    const PixelGrid shape = pixel_grid(params.capacity, params.channels / width);
    return launch(kernel, shape.grid, shape.block, 0, stream, input, list, output, size);
  };
  return vectors_fit<T>(params.channels, input, output)
             ? launch_vectors(max_pool_at_pixels<T, kVectorWidth<T>>, kVectorWidth<T>)
             : launch_vectors(max_pool_at_pixels<T, 1>, 1);
}

}  // namespace

const char* launch_masked_max_pool2d(const MaskedMaxPool2d& params, Stream stream) {
  if (params.batch == 0 || params.out_height == 0 || params.out_width == 0) return nullptr;
  if (params.channels == 0 || params.capacity == 0) return nullptr;
  if (const char* message = check(params)) return message;
  return with_type(params.dtype,
                   [&](auto element) { return launch_typed<decltype(element)>(params, stream); });
}

}  // namespace hpvod
