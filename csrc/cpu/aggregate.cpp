#include "aggregate.h"

#include "isa/dispatch.h"

namespace hpvod {

HPVOD_FOR_EACH_ISA(Range aggregate_range(const Aggregate&))
HPVOD_FOR_EACH_ISA(void aggregate(const Aggregate&, int64_t, int64_t))
HPVOD_FOR_EACH_ISA(Range aggregate_planes_range(const Aggregate&, int64_t))
HPVOD_FOR_EACH_ISA(void aggregate_planes(const Aggregate&, int64_t, int64_t, int64_t))

Range aggregate_range(const Aggregate& params) { HPVOD_DISPATCH_ISA(aggregate_range(params)); }

void aggregate_cpu(const Aggregate& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(aggregate(params, begin, end));
}

Range aggregate_planes_range(const Aggregate& params, int64_t area) {
  HPVOD_DISPATCH_ISA(aggregate_planes_range(params, area));
}

void aggregate_planes_cpu(const Aggregate& params, int64_t area, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(aggregate_planes(params, area, begin, end));
}

}  // namespace hpvod
