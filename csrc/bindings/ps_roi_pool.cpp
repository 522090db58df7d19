// ps_roi_pool: the schema, and the CPU's implementation.
#include "ps_roi_pool.h"

#include <memory>

#include "../cpu/ps_roi_pool.h"
#include "share_work.h"

namespace hpvod {
namespace {

void ps_roi_pool_out(Tensor score_maps, Tensor rois, int64_t groups, int64_t stride,
                     Tensor output) {
  check_ps_roi_pool(score_maps, rois, groups, stride);
  STD_TORCH_CHECK(
      output.dim() == 4 && output.size(0) == rois.size(0) &&
          output.size(1) == score_maps.size(1) / (groups * groups) && output.size(2) == groups &&
          output.size(3) == groups && output.scalar_type() == score_maps.scalar_type() &&
          output.is_contiguous() && output.device() == score_maps.device(),
      "ps_roi_pool: out must be contiguous [R, C, groups, groups] like score_maps, not ",
      shape_text(output));
  if (output.numel() == 0) return;
  const Layout layout = layout_of(score_maps);
  score_maps = dense(score_maps, layout);
  rois = torch::stable::contiguous(rois);
  const PsRoiPool params = ps_roi_pool_params(score_maps, layout, rois, groups, stride, output);
  const std::unique_ptr<char[]> workspace(new char[ps_roi_pool_workspace_cpu(params)]);
  void* sorted = workspace.get();
  const Range sort = ps_roi_sort_range(params);
  share_work(sort,
             [&](int64_t begin, int64_t end) { ps_roi_sort_cpu(params, sorted, begin, end); });
  const Range pool = ps_roi_pool_range(params);
  share_work(pool,
             [&](int64_t begin, int64_t end) { ps_roi_pool_cpu(params, sorted, begin, end); });
}

Tensor ps_roi_pool(Tensor score_maps, Tensor rois, int64_t groups, int64_t stride) {
  check_ps_roi_pool(score_maps, rois, groups, stride);
  const Tensor output = empty_pools(score_maps, rois, groups);
  ps_roi_pool_out(score_maps, rois, groups, stride, output);
  return output;
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def("ps_roi_pool(Tensor score_maps, Tensor rois, int groups, int stride) -> Tensor");
  m.def(
      "ps_roi_pool_out(Tensor score_maps, Tensor rois, int groups, int stride, *, Tensor(a!) out) "
      "-> ()");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) {
  m.impl("ps_roi_pool", TORCH_BOX(&hpvod::ps_roi_pool));
  m.impl("ps_roi_pool_out", TORCH_BOX(&hpvod::ps_roi_pool_out));
}
