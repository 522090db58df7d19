#include "ps_roi_pool.h"

#include "isa/dispatch.h"

namespace hpvod {

HPVOD_FOR_EACH_ISA(int64_t ps_roi_pool_workspace(const PsRoiPool&))
HPVOD_FOR_EACH_ISA(Range ps_roi_sort_range(const PsRoiPool&))
HPVOD_FOR_EACH_ISA(void ps_roi_sort(const PsRoiPool&, void*, int64_t, int64_t))
HPVOD_FOR_EACH_ISA(Range ps_roi_pool_range(const PsRoiPool&))
HPVOD_FOR_EACH_ISA(void ps_roi_pool(const PsRoiPool&, const void*, int64_t, int64_t))

int64_t ps_roi_pool_workspace_cpu(const PsRoiPool& params) {
  HPVOD_DISPATCH_ISA(ps_roi_pool_workspace(params));
}

Range ps_roi_sort_range(const PsRoiPool& params) { HPVOD_DISPATCH_ISA(ps_roi_sort_range(params)); }

void ps_roi_sort_cpu(const PsRoiPool& params, void* workspace, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(ps_roi_sort(params, workspace, begin, end));
}

Range ps_roi_pool_range(const PsRoiPool& params) { HPVOD_DISPATCH_ISA(ps_roi_pool_range(params)); }

void ps_roi_pool_cpu(const PsRoiPool& params, const void* workspace, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(ps_roi_pool(params, workspace, begin, end));
}

}  // namespace hpvod
