// Launches the kernels of `warp`: checks what their indices assume, and shapes grids.
#include "launcher.h"
#include "warp.h"
#include "warp_grad_feature.cuh"
#include "warp_grad_flow.cuh"

namespace hpvod {
namespace {

// Blocks that fill the largest GPUs several times over, so that the last, part-filled
// round of blocks is short beside the rest. Fewer pixels than that: split the channels.
constexpr int64_t kEnoughBlocks = 2048;
constexpr int64_t kMaxGridYZ = 65535;

int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

int64_t positions(const WarpShape& shape) { return shape.batch * shape.height * shape.width; }

int64_t heads(const WarpShape& shape) {
  return shape.batch * (shape.height + 1) * (shape.width + 1);
}

const char* check(const WarpShape& shape) {
  // The positions of WarpLinks are padded.
  if (!is_index({shape.height + 1, shape.width + 1, shape.batch})) {
    return "warp: N * (H + 1) * (W + 1) must not exceed 2^30";
  }
  return shape.channels > kMaxIndex ? "warp: C must not exceed 2^30" : nullptr;
}

WarpSize size_of(const WarpShape& shape) {
  return {static_cast<int>(shape.batch), static_cast<int>(shape.channels),
          static_cast<int>(shape.height), static_cast<int>(shape.width),
          shape.feature_batch != shape.batch};
}

// Blocks of the channels_last kernels: x along the channels, y and z a tile of pixels.
struct Tiles {
  dim3 grid;
  dim3 block;
  int splits;  // blocks of x that share the channels of a tile
};

Tiles tiles_of(const WarpShape& shape, int64_t images, int vector_width, bool may_split) {
  const int64_t vectors = shape.channels / vector_width;
  unsigned lanes = 1;
  while (lanes < 32 && lanes < vectors) lanes *= 2;
  unsigned columns = 1;
  unsigned rows = 1;
  while (lanes * columns * rows < kWarpThreads) (columns > rows ? rows : columns) *= 2;

  const int64_t tiles_x = divide_up(shape.width, columns);
  const int64_t tiles_y = divide_up(shape.height, rows);
  const int64_t splits = may_split ? clamp(divide_up(kEnoughBlocks, tiles_x * tiles_y * images), 1,
                                           divide_up(vectors, lanes))
                                   : 1;
  return {dim3(static_cast<unsigned>(tiles_x * splits),
               static_cast<unsigned>(clamp(tiles_y, 1, kMaxGridYZ)),
               static_cast<unsigned>(clamp(images, 1, kMaxGridYZ))),
          dim3(lanes, columns, rows), static_cast<int>(splits)};
}

// Grid of the kernels with a thread a pixel of a flattened plane: y shares the channels,
// `channels` of them a step.
dim3 plane_grid(int64_t plane, int64_t images, int64_t channels, int channels_a_step) {
  const int64_t blocks = divide_up(plane, kWarpThreads);
  const int64_t splits =
      clamp(divide_up(kEnoughBlocks, blocks * images), 1, divide_up(channels, channels_a_step));
  return dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(splits),
              static_cast<unsigned>(clamp(images, 1, kMaxGridYZ)));
}

// Grid of the kernels with a thread a pixel (or head) of a plane and no channels.
dim3 link_grid(int64_t plane, int64_t images) {
  return dim3(static_cast<unsigned>(divide_up(plane, kWarpThreads)),
              static_cast<unsigned>(clamp(images, 1, kMaxGridYZ)));
}

template <typename T>
const char* forward(const WarpForward& params, Stream stream) {
  const WarpShape& shape = params.shape;
  const WarpSize size = size_of(shape);
  const auto* feature = static_cast<const T*>(params.feature);
  const auto* scale = static_cast<const T*>(params.scale);
  auto* output = static_cast<T*>(params.output);
  const Flow<T> flow{params.flow, shape.flow_dtype == DType::kFloat32};

  if (shape.layout == Layout::kContiguous) {
    const dim3 grid =
        plane_grid(shape.height * shape.width, shape.batch, shape.channels, kForwardChannels);
    return launch(warp_forward_contiguous<T>, grid, dim3(kWarpThreads), 0, stream, feature, flow,
                  scale, output, size);
  }
  const auto launch_vectors = [&](auto kernel, int width) {
    const Tiles tiles = tiles_of(shape, shape.batch, width, true);
    return launch(kernel, tiles.grid, tiles.block, 0, stream, feature, flow, scale, output, size,
                  tiles.splits);
  };
  return vectors_fit<T>(shape.channels, feature, scale, output)
             ? launch_vectors(warp_forward_channels_last<T, kVectorWidth<T>>, kVectorWidth<T>)
             : launch_vectors(warp_forward_channels_last<T, 1>, 1);
}

template <typename T>
const char* gradient_of_feature(const WarpBackward& params, Stream stream) {
  const WarpShape& shape = params.shape;
  const WarpSize size = size_of(shape);
  const auto* scale = static_cast<const T*>(params.scale);
  const auto* grad_output = static_cast<const T*>(params.grad_output);
  auto* grad_feature = static_cast<T*>(params.grad_feature);
  const Flow<T> flow{params.flow, shape.flow_dtype == DType::kFloat32};
  const int64_t plane = shape.height * shape.width;
  const int64_t padded_plane = (shape.height + 1) * (shape.width + 1);
  auto* workspace = static_cast<int*>(params.workspace);
  const WarpLinks links{workspace, workspace + heads(shape)};

  if (shape.batch > 0) {
    const cudaError_t error =
        cudaMemsetAsync(links.heads, 0xff, heads(shape) * sizeof(int), stream);
    if (error != cudaSuccess) return cudaGetErrorString(error);
    if (const char* message = launch(warp_link<T>, link_grid(plane, shape.batch),
                                     dim3(kWarpThreads), 0, stream, flow, links, size)) {
      return message;
    }
    if (const char* message = launch(warp_order, link_grid(padded_plane, shape.batch),
                                     dim3(kWarpThreads), 0, stream, links, size)) {
      return message;
    }
  }

  const int feature_batch = static_cast<int>(shape.feature_batch);
  if (shape.layout == Layout::kContiguous) {
    const dim3 grid = plane_grid(plane, feature_batch, shape.channels, kGatherChannels);
    return launch(warp_gather_contiguous<T>, grid, dim3(kWarpThreads), 0, stream, grad_output, flow,
                  scale, grad_feature, links, size, feature_batch);
  }
  const auto launch_vectors = [&](auto kernel, int width) {
    const Tiles tiles = tiles_of(shape, feature_batch, width, true);
    return launch(kernel, tiles.grid, tiles.block, 0, stream, grad_output, flow, scale,
                  grad_feature, links, size, feature_batch, tiles.splits);
  };
  return vectors_fit<T>(shape.channels, scale, grad_output, grad_feature)
             ? launch_vectors(warp_gather_channels_last<T, kVectorWidth<T>>, kVectorWidth<T>)
             : launch_vectors(warp_gather_channels_last<T, 1>, 1);
}

template <typename T>
const char* gradient_of_flow_and_scale(const WarpBackward& params, Stream stream) {
  const WarpShape& shape = params.shape;
  const WarpSize size = size_of(shape);
  const auto* feature = static_cast<const T*>(params.feature);
  const auto* scale = static_cast<const T*>(params.scale);
  const auto* grad_output = static_cast<const T*>(params.grad_output);
  auto* grad_scale = static_cast<T*>(params.grad_scale);
  const bool is_float32 = shape.flow_dtype == DType::kFloat32;
  const Flow<T> flow{params.flow, is_float32};
  const FlowGradient<T> grad_flow{params.grad_flow, is_float32};

  if (shape.layout == Layout::kContiguous) {
    const dim3 grid(static_cast<unsigned>(divide_up(shape.height * shape.width, kPlaneLanes)),
                    static_cast<unsigned>(clamp(shape.batch, 1, kMaxGridYZ)));
    return launch(warp_grad_flow_contiguous<T>, grid, dim3(kPlaneLanes, kPlaneGroups), 0, stream,
                  feature, flow, scale, grad_output, grad_flow, grad_scale, size);
  }
  const auto launch_vectors = [&](auto kernel, int width) {
    const Tiles tiles = tiles_of(shape, shape.batch, width, false);
    return launch(kernel, tiles.grid, tiles.block, 0, stream, feature, flow, scale, grad_output,
                  grad_flow, grad_scale, size);
  };
  return vectors_fit<T>(shape.channels, feature, scale, grad_output, grad_scale)
             ? launch_vectors(warp_grad_flow_channels_last<T, kVectorWidth<T>>, kVectorWidth<T>)
             : launch_vectors(warp_grad_flow_channels_last<T, 1>, 1);
}

}  // namespace

const char* launch_warp_forward(const WarpForward& params, Stream stream) {
  const WarpShape& shape = params.shape;
  if (const char* message = check(shape)) return message;
  if (positions(shape) == 0 || shape.channels == 0) return nullptr;
  return with_type(shape.dtype,
                   [&](auto element) { return forward<decltype(element)>(params, stream); });
}

const char* launch_warp_backward(const WarpBackward& params, Stream stream) {
  const WarpShape& shape = params.shape;
  if (const char* message = check(shape)) return message;
  // A sum over nothing is still written: the gradient of a feature that no flow reads
  // (N = 0), or of a flow without channels, is 0.
  const bool feature_is_empty =
      shape.feature_batch * shape.channels * shape.height * shape.width == 0;
  if (params.grad_feature != nullptr && !feature_is_empty) {
    if (const char* message = with_type(shape.dtype, [&](auto element) {
          return gradient_of_feature<decltype(element)>(params, stream);
        })) {
      return message;
    }
  }
  if ((params.grad_flow != nullptr || params.grad_scale != nullptr) && positions(shape) > 0) {
    return with_type(shape.dtype, [&](auto element) {
      return gradient_of_flow_and_scale<decltype(element)>(params, stream);
    });
  }
  return nullptr;
}

int64_t warp_backward_workspace(const WarpShape& shape) {
  return (heads(shape) + positions(shape)) * static_cast<int64_t>(sizeof(int));
}

}  // namespace hpvod
