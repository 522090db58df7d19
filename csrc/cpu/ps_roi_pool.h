// The CPU kernels of ps_roi_pool. Each works on a range of independent items; the caller spreads
// [0, items) over its own threads. No result depends on how it was spread.
#pragma once

#include "../kernels/ps_roi_pool.h"
#include "range.h"

namespace hpvod {

// In order: the score maps are sorted by bin into the workspace, then bins are pooled from there.
int64_t ps_roi_pool_workspace_cpu(const PsRoiPool& params);
Range ps_roi_sort_range(const PsRoiPool& params);
void ps_roi_sort_cpu(const PsRoiPool& params, void* workspace, int64_t begin, int64_t end);
Range ps_roi_pool_range(const PsRoiPool& params);
void ps_roi_pool_cpu(const PsRoiPool& params, const void* workspace, int64_t begin, int64_t end);

}  // namespace hpvod
