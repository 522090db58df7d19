#include "warp_aggregate.h"

#include "isa/dispatch.h"

namespace hpvod {

HPVOD_FOR_EACH_ISA(Range warp_aggregate_range(const WarpAggregate&))
HPVOD_FOR_EACH_ISA(void warp_aggregate(const WarpAggregate&, int64_t, int64_t))
HPVOD_FOR_EACH_ISA(int64_t warp_aggregate_planes_workspace(const WarpAggregate&))
HPVOD_FOR_EACH_ISA(Range warp_aggregate_planes_range(const WarpAggregate&, PlanesStep))
HPVOD_FOR_EACH_ISA(void warp_aggregate_planes(const WarpAggregate&, char*, PlanesStep, int64_t,
                                              int64_t))

Range warp_aggregate_range(const WarpAggregate& params) {
  HPVOD_DISPATCH_ISA(warp_aggregate_range(params));
}

void warp_aggregate_cpu(const WarpAggregate& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(warp_aggregate(params, begin, end));
}

int64_t warp_aggregate_planes_workspace(const WarpAggregate& params) {
  HPVOD_DISPATCH_ISA(warp_aggregate_planes_workspace(params));
}

Range warp_aggregate_planes_range(const WarpAggregate& params, PlanesStep step) {
  HPVOD_DISPATCH_ISA(warp_aggregate_planes_range(params, step));
}

void warp_aggregate_planes_cpu(const WarpAggregate& params, char* workspace, PlanesStep step,
                               int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(warp_aggregate_planes(params, workspace, step, begin, end));
}

}  // namespace hpvod
