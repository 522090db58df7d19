#include "warp_aggregate.h"

#include "isa/dispatch.h"

namespace hpvod {

HPVOD_FOR_EACH_ISA(Range warp_aggregate_range(const WarpAggregate&))
HPVOD_FOR_EACH_ISA(void warp_aggregate(const WarpAggregate&, int64_t, int64_t))
HPVOD_FOR_EACH_ISA(Range warp_aggregate_planes_range(const WarpAggregate&))
HPVOD_FOR_EACH_ISA(void warp_aggregate_planes(const WarpAggregate&, int64_t, int64_t))

Range warp_aggregate_range(const WarpAggregate& params) {
  HPVOD_DISPATCH_ISA(warp_aggregate_range(params));
}

void warp_aggregate_cpu(const WarpAggregate& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(warp_aggregate(params, begin, end));
}

Range warp_aggregate_planes_range(const WarpAggregate& params) {
  HPVOD_DISPATCH_ISA(warp_aggregate_planes_range(params));
}

void warp_aggregate_planes_cpu(const WarpAggregate& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(warp_aggregate_planes(params, begin, end));
}

}  // namespace hpvod
