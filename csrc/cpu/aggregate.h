// The CPU kernel of aggregate. It works on a range of independent items; the caller spreads
// [0, items) over its own threads. No result depends on how it was spread.
#pragma once

#include "../kernels/aggregate.h"
#include "range.h"

namespace hpvod {

Range aggregate_range(const Aggregate& params);
void aggregate_cpu(const Aggregate& params, int64_t begin, int64_t end);

}  // namespace hpvod
