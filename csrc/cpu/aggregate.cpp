#include "aggregate.h"

#include "isa/dispatch.h"

namespace hpvod {

HPVOD_FOR_EACH_ISA(Range aggregate_range(const Aggregate&))
HPVOD_FOR_EACH_ISA(void aggregate(const Aggregate&, int64_t, int64_t))

Range aggregate_range(const Aggregate& params) { HPVOD_DISPATCH_ISA(aggregate_range(params)); }

void aggregate_cpu(const Aggregate& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(aggregate(params, begin, end));
}

}  // namespace hpvod
