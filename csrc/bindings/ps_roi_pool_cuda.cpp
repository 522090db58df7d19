// ps_roi_pool on CUDA.
#include "ps_roi_pool.h"

namespace hpvod {
namespace {

Tensor ps_roi_pool(Tensor score_maps, Tensor rois, int64_t groups, int64_t stride) {
  check_ps_roi_pool(score_maps, rois, groups, stride);
  const torch::stable::accelerator::DeviceGuard guard(score_maps.get_device_index());
  const Tensor output = empty_pools(score_maps, rois, groups);
  if (output.numel() == 0) return output;
  const Layout layout = layout_of(score_maps);
  score_maps = dense(score_maps, layout);
  rois = torch::stable::contiguous(rois);
  const char* error =
      launch_ps_roi_pool(ps_roi_pool_params(score_maps, layout, rois, groups, stride, output),
                         current_cuda_stream(score_maps));
  STD_TORCH_CHECK(!error, "ps_roi_pool: ", error ? error : "");
  return output;
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_IMPL(hpvod, CUDA, m) { m.impl("ps_roi_pool", TORCH_BOX(&hpvod::ps_roi_pool)); }
