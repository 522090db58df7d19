#include "warp_pixels.h"

#include "isa/dispatch.h"

namespace hpvod {

HPVOD_FOR_EACH_ISA(Range warp_pixels_range(const WarpPixels&))
HPVOD_FOR_EACH_ISA(void warp_pixels(const WarpPixels&, int64_t, int64_t))

Range warp_pixels_range(const WarpPixels& params) { HPVOD_DISPATCH_ISA(warp_pixels_range(params)); }

void warp_pixels_cpu(const WarpPixels& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(warp_pixels(params, begin, end));
}

}  // namespace hpvod
