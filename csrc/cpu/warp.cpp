#include "warp.h"

#include "isa/dispatch.h"

namespace hpvod {

HPVOD_FOR_EACH_ISA(Range warp_forward_range(const WarpShape&))
HPVOD_FOR_EACH_ISA(void warp_forward(const WarpForward&, int64_t, int64_t))
HPVOD_FOR_EACH_ISA(int64_t warp_backward_workspace(const WarpShape&))
HPVOD_FOR_EACH_ISA(void warp_link(const WarpBackward&))
HPVOD_FOR_EACH_ISA(Range warp_grad_feature_range(const WarpShape&))
HPVOD_FOR_EACH_ISA(void warp_grad_feature(const WarpBackward&, int64_t, int64_t))
HPVOD_FOR_EACH_ISA(Range warp_grad_flow_range(const WarpShape&))
HPVOD_FOR_EACH_ISA(void warp_grad_flow(const WarpBackward&, int64_t, int64_t))
HPVOD_FOR_EACH_ISA(void warp_grad_flow_sum(const WarpBackward&))

Range warp_forward_range(const WarpShape& shape) { HPVOD_DISPATCH_ISA(warp_forward_range(shape)); }

void warp_forward_cpu(const WarpForward& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(warp_forward(params, begin, end));
}

int64_t warp_backward_workspace_cpu(const WarpShape& shape) {
  HPVOD_DISPATCH_ISA(warp_backward_workspace(shape));
}

void warp_link_cpu(const WarpBackward& params) { HPVOD_DISPATCH_ISA(warp_link(params)); }

Range warp_grad_feature_range(const WarpShape& shape) {
  HPVOD_DISPATCH_ISA(warp_grad_feature_range(shape));
}

void warp_grad_feature_cpu(const WarpBackward& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(warp_grad_feature(params, begin, end));
}

Range warp_grad_flow_range(const WarpShape& shape) {
  HPVOD_DISPATCH_ISA(warp_grad_flow_range(shape));
}

void warp_grad_flow_cpu(const WarpBackward& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(warp_grad_flow(params, begin, end));
}

void warp_grad_flow_sum_cpu(const WarpBackward& params) {
  HPVOD_DISPATCH_ISA(warp_grad_flow_sum(params));
}

}  // namespace hpvod
