// The CPU kernel of batched_nms. It works on a range of images; the caller spreads [0, items) over
// its own threads. No result depends on how it was spread.
#pragma once

#include "../kernels/batched_nms.h"
#include "range.h"

namespace hpvod {

int64_t batched_nms_workspace_cpu(const BatchedNms& params);
Range batched_nms_range(const BatchedNms& params);
void batched_nms_cpu(const BatchedNms& params, void* workspace, int64_t begin, int64_t end);

}  // namespace hpvod
