// The CPU kernels of aggregate. Each works on a range of independent items; the caller spreads
// [0, items) over its own threads. No result depends on how it was spread.
#pragma once

#include "../kernels/aggregate.h"
#include "range.h"

namespace hpvod {

Range aggregate_range(const Aggregate& params);
void aggregate_cpu(const Aggregate& params, int64_t begin, int64_t end);

// Of maps and an output that are dense in the contiguous layout, with planes of `area` values.
Range aggregate_planes_range(const Aggregate& params, int64_t area);
void aggregate_planes_cpu(const Aggregate& params, int64_t area, int64_t begin, int64_t end);

}  // namespace hpvod
