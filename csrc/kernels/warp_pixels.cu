// Launches the kernel of `warp_pixels`: checks what its indices assume, and shapes grids.
#include "launcher.h"
#include "warp_pixels.cuh"
#include "warp_pixels.h"

namespace hpvod {
namespace {

const char* check(const WarpPixels& params) {
  // Half of what an index holds for the flow: it has two values a pixel.
  if (!is_index({params.batch, params.height, params.width}) ||
      !is_index({2, params.batch, params.flow_height, params.flow_width})) {
    return "N * H * W must not exceed 2^30, nor N * h * w 2^29";
  }
  if (params.height > kMaxSide || params.width > kMaxSide) return "a side must not exceed 2^29";
  if (!is_index({params.channels}) || !is_index({params.capacity})) {
    return "neither C nor the capacity of the list must exceed 2^30";
  }
  if (params.ratio < 1 || params.ratio > kMaxIndex) return "ratio must be 1 to 2^30";
  if (params.flow_height * params.flow_width == 0) return "the flow is empty, the layer is not";
  return nullptr;
}

template <typename T>
const char* launch_typed(const WarpPixels& params, Stream stream) {
  const auto* feature = static_cast<const T*>(params.feature);
  const auto* scale = static_cast<const T*>(params.scale);
  auto* output = static_cast<T*>(params.output);
  const Flow<T> flow{params.flow, params.flow_dtype == DType::kFloat32};
  const PixelList list{params.pixels, params.count, static_cast<int>(params.capacity)};
  const WarpPixelsSize size{
      static_cast<int>(params.channels),   static_cast<int>(params.height),
      static_cast<int>(params.width),      static_cast<int>(params.flow_height),
      static_cast<int>(params.flow_width), static_cast<int>(params.ratio)};
  const auto launch_vectors = [&](auto kernel, int width) {
    const PixelGrid shape = pixel_grid(params.capacity, params.channels / width);
    return launch(kernel, shape.grid, shape.block, 0, stream, feature, flow, scale, list, output,
                  size);
  };
  return vectors_fit<T>(params.channels, feature, scale, output)
             ? launch_vectors(warp_at_pixels<T, kVectorWidth<T>>, kVectorWidth<T>)
             : launch_vectors(warp_at_pixels<T, 1>, 1);
}

}  // namespace

const char* launch_warp_pixels(const WarpPixels& params, Stream stream) {
  if (params.batch == 0 || params.height == 0 || params.width == 0) return nullptr;
  if (params.channels == 0 || params.capacity == 0) return nullptr;
  if (const char* message = check(params)) return message;
  return with_type(params.dtype,
                   [&](auto element) { return launch_typed<decltype(element)>(params, stream); });
}

}  // namespace hpvod
