// The CPU kernels of warp_aggregate. Each works on a range of independent items; the caller spreads
// [0, items) over its own threads. No result depends on how it was spread.
#pragma once

#include "../kernels/warp_aggregate.h"
#include "range.h"

namespace hpvod {

Range warp_aggregate_range(const WarpAggregate& params);
void warp_aggregate_cpu(const WarpAggregate& params, int64_t begin, int64_t end);

// Of maps and an output that are dense in the contiguous layout: the steps in their order, each
// over a range of its own, with what they leave for one another in the workspace.
enum class PlanesStep { kFindTaps, kCompare, kWeigh, kAdd };
constexpr PlanesStep kPlanesSteps[] = {PlanesStep::kFindTaps, PlanesStep::kCompare,
                                       PlanesStep::kWeigh, PlanesStep::kAdd};
int64_t warp_aggregate_planes_workspace(const WarpAggregate& params);  // bytes
Range warp_aggregate_planes_range(const WarpAggregate& params, PlanesStep step);
void warp_aggregate_planes_cpu(const WarpAggregate& params, char* workspace, PlanesStep step,
                               int64_t begin, int64_t end);

}  // namespace hpvod
