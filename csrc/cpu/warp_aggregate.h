// The CPU kernels of warp_aggregate. Each works on a range of independent items; the caller spreads
// [0, items) over its own threads. No result depends on how it was spread.
#pragma once

#include "../kernels/warp_aggregate.h"
#include "range.h"

namespace hpvod {

Range warp_aggregate_range(const WarpAggregate& params);
void warp_aggregate_cpu(const WarpAggregate& params, int64_t begin, int64_t end);

// Of maps and an output that are dense in the contiguous layout.
Range warp_aggregate_planes_range(const WarpAggregate& params);
void warp_aggregate_planes_cpu(const WarpAggregate& params, int64_t begin, int64_t end);

}  // namespace hpvod
