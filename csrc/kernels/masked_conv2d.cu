// Launches the kernels of `masked_conv2d`: checks what their indices assume, chooses between
// them, and shapes grids and workspaces.
#include <map>
#include <mutex>

#include "launcher.h"
#include "masked_conv2d.h"
#include "masked_conv2d_fma.cuh"
#include "masked_conv2d_mma.cuh"

namespace hpvod {
namespace {

struct Gpu {
  const char* error;  // null, or why the rest is unknown
  bool has_mma;       // and the kernels were compiled with it
  int mma_blocks;     // that it holds of the kernels with tensor cores
  int fma_blocks;     // and of the others
};

cudaError_t grant_shared_bytes(std::initializer_list<const void*> kernels) {
  for (const void* kernel : kernels) {
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(sizeof(MmaShared)));
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

template <typename... Params>
const void* address(void (*kernel)(Params...)) {
  return reinterpret_cast<const void*>(kernel);
}

cudaError_t examine(int device, Gpu& gpu) {
  // Not the device's own capability: of a build for sm_75, newer GPUs get sm_75's code.
  cudaFuncAttributes attributes{};
  cudaError_t error = cudaFuncGetAttributes(&attributes, address(conv_at_pixels_mma<BFloat16, 8>));
  if (error != cudaSuccess) return error;
  gpu.has_mma = attributes.ptxVersion >= 80;
  if (gpu.has_mma) {
    error = grant_shared_bytes(
        {address(conv_at_pixels_mma<BFloat16, 8>), address(conv_at_pixels_mma<BFloat16, 1>),
         address(conv_at_pixels_mma<Half, 8>), address(conv_at_pixels_mma<Half, 1>)});
    if (error != cudaSuccess) return error;
    error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        &gpu.mma_blocks, address(conv_at_pixels_mma<BFloat16, 8>), kMmaThreads, sizeof(MmaShared));
    if (error != cudaSuccess) return error;
  }
  error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      &gpu.fma_blocks, address(conv_at_pixels_fma<float, kVectorWidth<float>>), kFmaThreads, 0);
  if (error != cudaSuccess) return error;
  int multiprocessors = 0;
  error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  gpu.mma_blocks *= multiprocessors;
  gpu.fma_blocks *= multiprocessors;
  return error;
}

// The current GPU, examined at its first use.
Gpu current_gpu() {
  static std::mutex mutex;
  static std::map<int, Gpu> gpus;
  int device = 0;
  Gpu gpu{};
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = gpus.find(device);
    if (found != gpus.end()) return found->second;
    error = examine(device, gpu);
    if (error == cudaSuccess) gpus.emplace(device, gpu);
  }
  if (error != cudaSuccess) gpu.error = cudaGetErrorString(error);
  return gpu;
}

// The workspace: a counter for each tile that is cut, then the sums of its pieces.
struct Plan {
  bool vectors;  // of input channels
  int64_t steps;
  unsigned grid;
  int64_t counter_bytes;
  int64_t sums_bytes;
};

int64_t taps(const MaskedConv2dShape& shape) { return shape.kernel_height * shape.kernel_width; }

bool uses_mma(const MaskedConv2d& params, const Gpu& gpu) {
  return gpu.has_mma &&
         (params.shape.dtype == DType::kFloat16 || params.shape.dtype == DType::kBFloat16);
}

template <typename T>
Plan make_plan(const MaskedConv2d& params, const Gpu& gpu) {
  const MaskedConv2dShape& shape = params.shape;
  const bool mma = uses_mma(params, gpu);
  const int64_t step = mma ? kMmaStep : FmaTile<T>::kStep;
  Plan plan{};
  // No channels at all are no element to gather one by one.
  plan.vectors =
      shape.in_channels == 0 || vectors_fit<T>(shape.in_channels, params.input, params.weight);
  plan.steps = plan.vectors ? taps(shape) * divide_up(shape.in_channels, step)
                            : divide_up(taps(shape) * shape.in_channels, step);
  int most_pieces = 1;  // of a tile
  while (ConvTiling::may_be_cut(plan.steps, most_pieces)) ++most_pieces;
  const bool may_be_cut = most_pieces++ > 1;  // one more where the parts are uneven
  const auto most_items = [&](int64_t rows, int64_t columns) {
    return most_pieces * divide_up(params.capacity, rows) * divide_up(shape.out_channels, columns);
  };
  const auto least = [](int64_t a, int64_t b) { return a < b ? a : b; };
  const int64_t resident = mma ? gpu.mma_blocks : gpu.fma_blocks;
  int64_t grid;
  if (mma) {
    grid = least(resident, most_items(SmallMmaTile::kRows, SmallMmaTile::kColumns));
    const int64_t large = least(grid, most_items(LargeMmaTile::kRows, LargeMmaTile::kColumns));
    plan.sums_bytes = 2 * large * LargeMmaTile::kPieceBytes;
    const int64_t small = 2 * grid * SmallMmaTile::kPieceBytes;
    if (plan.sums_bytes < small) plan.sums_bytes = small;
  } else {
    grid = least(resident, most_items(FmaTile<T>::kRows, FmaTile<T>::kColumns));
    plan.sums_bytes = 2 * grid * FmaTile<T>::kPieceBytes;
  }
  plan.grid = static_cast<unsigned>(grid);
  plan.counter_bytes = divide_up(grid * static_cast<int64_t>(sizeof(int)), 256) * 256;
  if (!may_be_cut) plan.counter_bytes = plan.sums_bytes = 0;
  return plan;
}

const char* check(const MaskedConv2d& params) {
  const MaskedConv2dShape& shape = params.shape;
  if (!is_index({shape.batch, shape.in_height, shape.in_width}) ||
      !is_index({shape.batch, shape.out_height, shape.out_width})) {
    return "N * H * W must not exceed 2^30";
  }
  if (!is_index({shape.in_channels, shape.kernel_height, shape.kernel_width}) ||
      !is_index({params.capacity, divide_up(shape.out_channels, 64)}) ||
      !is_index({shape.out_channels})) {
    return "neither the input channels times the kernel's area, nor the capacity of the list, nor "
           "that times a 64th of the output channels may exceed 2^30";
  }
  // Chunks of eight elements of input and weight, those behind the last output channel included.
  if (!is_index({shape.batch, shape.in_height, shape.in_width, shape.in_channels / 8}) ||
      !is_index({shape.out_channels / 64 + 2, 8, shape.kernel_height, shape.kernel_width,
                 shape.in_channels})) {
    return "the input must not exceed 2^33 elements, nor the weight 2^30";
  }
  if (shape.kernel_height < 1 || shape.kernel_width < 1 || shape.stride < 1 || shape.dilation < 1 ||
      shape.padding < 0) {
    return "kernel, stride and dilation must be positive, padding not negative";
  }
  if (!is_index({2, shape.kernel_height, shape.dilation}) ||
      !is_index({2, shape.kernel_width, shape.dilation}) || !is_index({4, shape.padding}) ||
      !is_index({2, shape.out_height, shape.stride}) ||
      !is_index({2, shape.out_width, shape.stride})) {
    return "a window reaches too far outside the input";
  }
  return nullptr;
}

// Why not to launch: nothing to do (and null), an error, or neither.
struct Refusal {
  bool refused;
  const char* error;
};

Refusal refuse(const MaskedConv2d& params) {
  const MaskedConv2dShape& shape = params.shape;
  if (shape.batch == 0 || shape.out_height == 0 || shape.out_width == 0) return {true, nullptr};
  if (shape.out_channels == 0 || params.capacity == 0) return {true, nullptr};
  const char* error = check(params);
  return {error != nullptr, error};
}

template <typename T>
const char* launch_typed(const MaskedConv2d& params, const Gpu& gpu, Stream stream) {
  using Real = accumulate_t<T>;
  const MaskedConv2dShape& shape = params.shape;
  const Plan plan = make_plan<T>(params, gpu);
  const bool mma = uses_mma(params, gpu);
  const int64_t step = mma ? kMmaStep : FmaTile<T>::kStep;
  const ConvMaps<T> maps{static_cast<const T*>(params.input), static_cast<const T*>(params.weight),
                         static_cast<const Real*>(params.bias),
                         static_cast<const T*>(params.residual), static_cast<T*>(params.output)};
  const PixelList list{params.pixels, params.count, static_cast<int>(params.capacity)};
  const ConvSize size{
      static_cast<int>(shape.in_channels), static_cast<int>(shape.in_height),
      static_cast<int>(shape.in_width), static_cast<int>(shape.out_channels),
      static_cast<int>(shape.out_height), static_cast<int>(shape.out_width),
      static_cast<int>(taps(shape)), static_cast<int>(shape.kernel_width),
      static_cast<int>(shape.stride), static_cast<int>(shape.padding),
      static_cast<int>(shape.dilation),
      // The kernels divide by it, also where there is nothing to divide.
      static_cast<int>(shape.in_channels > 0 ? divide_up(shape.in_channels, step) : 1),
      static_cast<int>(plan.steps), params.relu,
      vectors_fit<T>(shape.out_channels, params.bias, params.residual, params.output)};
  auto* const workspace = static_cast<unsigned char*>(params.workspace);
  if (plan.counter_bytes > 0) {
    const cudaError_t error = cudaMemsetAsync(workspace, 0, plan.counter_bytes, stream);
    if (error != cudaSuccess) return cudaGetErrorString(error);
  }
  const ConvWorkspace pieces{reinterpret_cast<int*>(workspace), workspace + plan.counter_bytes};
  const auto launch_kernel = [&](auto kernel, size_t shared_bytes) {
    return launch(kernel, dim3(plan.grid), dim3(mma ? kMmaThreads : kFmaThreads), shared_bytes,
                  stream, maps, list, size, pieces);
  };
  if constexpr (sizeof(T) == 2) {
    if (mma) {
      return launch_kernel(plan.vectors ? conv_at_pixels_mma<T, 8> : conv_at_pixels_mma<T, 1>,
                           sizeof(MmaShared));
    }
  }
  return launch_kernel(
      plan.vectors ? conv_at_pixels_fma<T, kVectorWidth<T>> : conv_at_pixels_fma<T, 1>, 0);
}

}  // namespace

const char* launch_masked_conv2d(const MaskedConv2d& params, Stream stream) {
  const Refusal refusal = refuse(params);
  if (refusal.refused) return refusal.error;
  const Gpu gpu = current_gpu();
  if (gpu.error != nullptr) return gpu.error;
  return with_type(params.shape.dtype, [&](auto element) {
    return launch_typed<decltype(element)>(params, gpu, stream);
  });
}

int64_t masked_conv2d_workspace(const MaskedConv2d& params) {
  if (refuse(params).refused) return 0;
  const Gpu gpu = current_gpu();
  if (gpu.error != nullptr) return 0;  // the launch says so
  int64_t bytes = 0;
  with_type(params.shape.dtype, [&](auto element) -> const char* {
    const Plan plan = make_plan<decltype(element)>(params, gpu);
    bytes = plan.counter_bytes + plan.sums_bytes;
    return nullptr;
  });
  return bytes;
}

}  // namespace hpvod
