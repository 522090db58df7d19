#include "batched_nms.h"

#include "isa/dispatch.h"

namespace hpvod {

HPVOD_FOR_EACH_ISA(int64_t batched_nms_workspace(const BatchedNms&))
HPVOD_FOR_EACH_ISA(void batched_nms(const BatchedNms&, void*, int64_t, int64_t))

int64_t batched_nms_workspace_cpu(const BatchedNms& params) {
  HPVOD_DISPATCH_ISA(batched_nms_workspace(params));
}

// An image is one item: whether a box is kept depends on all before it.
Range batched_nms_range(const BatchedNms& params) { return {params.batch, 1}; }

void batched_nms_cpu(const BatchedNms& params, void* workspace, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(batched_nms(params, workspace, begin, end));
}

}  // namespace hpvod
