// ps_roi_pool: the schema, and the CPU's implementation.
#include "ps_roi_pool.h"

#include "../cpu/ps_roi_pool.h"
#include "share_work.h"

namespace hpvod {
namespace {

Tensor ps_roi_pool(Tensor score_maps, Tensor rois, int64_t groups, int64_t stride) {
  check_ps_roi_pool(score_maps, rois, groups, stride);
  const Tensor output = empty_pools(score_maps, rois, groups);
  if (output.numel() == 0) return output;
  const Layout layout = layout_of(score_maps);
  score_maps = dense(score_maps, layout);
  rois = torch::stable::contiguous(rois);
  const PsRoiPool params = ps_roi_pool_params(score_maps, layout, rois, groups, stride, output);
  const Tensor workspace = empty_bytes(score_maps, ps_roi_pool_workspace_cpu(params));
  void* sorted = workspace.mutable_data_ptr();
  const Range sort = ps_roi_sort_range(params);
  share_work(sort,
             [&](int64_t begin, int64_t end) { ps_roi_sort_cpu(params, sorted, begin, end); });
  const Range pool = ps_roi_pool_range(params);
  share_work(pool,
             [&](int64_t begin, int64_t end) { ps_roi_pool_cpu(params, sorted, begin, end); });
  return output;
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def("ps_roi_pool(Tensor score_maps, Tensor rois, int groups, int stride) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) { m.impl("ps_roi_pool", TORCH_BOX(&hpvod::ps_roi_pool)); }
