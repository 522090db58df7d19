// The CPU kernel of masked_max_pool2d. It works on a range of independent items; the caller spreads
// [0, items) over its own threads. No result depends on how it was spread.
#pragma once

#include "../kernels/masked_max_pool2d.h"
#include "range.h"

namespace hpvod {

Range masked_max_pool2d_range(const MaskedMaxPool2d& params);
void masked_max_pool2d_cpu(const MaskedMaxPool2d& params, int64_t begin, int64_t end);

}  // namespace hpvod
