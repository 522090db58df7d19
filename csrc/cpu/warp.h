// The CPU kernels of warp. Each works on a range of independent items; the caller spreads
// [0, items) over its own threads. No result depends on how it was spread.
#pragma once

#include "../kernels/warp.h"
#include "range.h"

namespace hpvod {

Range warp_forward_range(const WarpShape& shape);
void warp_forward_cpu(const WarpForward& params, int64_t begin, int64_t end);

int64_t warp_backward_workspace_cpu(const WarpShape& shape);  // bytes

// The gradient of the feature. Linked once, workspace lists for every feature pixel the
// output pixels that read it; a range then gathers them.
void warp_link_cpu(const WarpBackward& params);
Range warp_grad_feature_range(const WarpShape& shape);
void warp_grad_feature_cpu(const WarpBackward& params, int64_t begin, int64_t end);

// The gradients of flow and scale. The range leaves the flow's in parts, one a block of
// channels, in workspace; the sum of the parts finishes it.
Range warp_grad_flow_range(const WarpShape& shape);
void warp_grad_flow_cpu(const WarpBackward& params, int64_t begin, int64_t end);
void warp_grad_flow_sum_cpu(const WarpBackward& params);

}  // namespace hpvod
