#include "masked_max_pool2d.h"

#include "isa/dispatch.h"

namespace hpvod {

HPVOD_FOR_EACH_ISA(Range masked_max_pool2d_range(const MaskedMaxPool2d&))
HPVOD_FOR_EACH_ISA(void masked_max_pool2d(const MaskedMaxPool2d&, int64_t, int64_t))

Range masked_max_pool2d_range(const MaskedMaxPool2d& params) {
  HPVOD_DISPATCH_ISA(masked_max_pool2d_range(params));
}

void masked_max_pool2d_cpu(const MaskedMaxPool2d& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(masked_max_pool2d(params, begin, end));
}

}  // namespace hpvod
