// The CPU kernel of warp_pixels. It works on a range of independent items; the caller spreads
// [0, items) over its own threads. No result depends on how it was spread.
#pragma once

#include "../kernels/warp_pixels.h"
#include "range.h"

namespace hpvod {

Range warp_pixels_range(const WarpPixels& params);
void warp_pixels_cpu(const WarpPixels& params, int64_t begin, int64_t end);

}  // namespace hpvod
