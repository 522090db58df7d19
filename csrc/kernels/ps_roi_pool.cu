// Launches the kernel of `ps_roi_pool`: checks what its indices assume, and shapes its grid.
#include "launcher.h"
#include "ps_roi_pool.cuh"
#include "ps_roi_pool.h"

namespace hpvod {
namespace {

const char* check(const PsRoiPool& params) {
  if (!is_index({params.batch, params.height, params.width})) {
    return "N * h * w must not exceed 2^30";
  }
  if (!is_index({params.channels, params.groups, params.groups}) || !is_index({params.rois})) {
    return "neither C * groups * groups nor R must exceed 2^30";
  }
  if (params.groups < 1 || params.groups > kMaxGroups) return "groups must be 1 to 2^10";
  if (params.stride < 1 || params.stride > kMaxStride) return "stride must be 1 to 2^20";
  return nullptr;
}

template <typename T>
const char* launch_typed(const PsRoiPool& params, Stream stream) {
  const PsRoiPoolSize size{static_cast<int>(params.batch),
                           static_cast<int>(params.channels),
                           static_cast<int>(params.height),
                           static_cast<int>(params.width),
                           static_cast<int>(params.groups),
                           static_cast<int>(params.stride),
                           params.channel_step,
                           params.pixel_step};
  // As many blocks as fill the largest GPUs, and a few results a thread, for which the edges are
  // worth working out.
  constexpr int64_t kEnoughBlocks = 2048;
  constexpr int64_t kResultsAThread = 2;
  const int64_t results = params.channels * params.groups * params.groups;
  const int64_t wanted = divide_up(kEnoughBlocks, params.rois);
  const int64_t parts = divide_up(results, kResultsAThread * kRoiThreads);
  const dim3 grid(static_cast<unsigned>(params.rois),
                  static_cast<unsigned>(parts < wanted ? parts : wanted));
  const size_t shared_bytes = 4 * params.groups * sizeof(int);
  return launch(pool_rois<T>, grid, dim3(kRoiThreads), shared_bytes, stream,
                static_cast<const T*>(params.score_maps), params.boxes,
                static_cast<T*>(params.output), size);
}

}  // namespace

const char* launch_ps_roi_pool(const PsRoiPool& params, Stream stream) {
  if (params.rois == 0 || params.channels == 0) return nullptr;
  if (const char* message = check(params)) return message;
  return with_type(params.dtype,
                   [&](auto element) { return launch_typed<decltype(element)>(params, stream); });
}

}  // namespace hpvod
