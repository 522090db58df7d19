#include "transpose.h"

#include "isa/dispatch.h"

namespace hpvod {

HPVOD_FOR_EACH_ISA(Range transpose_range(const Transpose&))
HPVOD_FOR_EACH_ISA(void transpose(const Transpose&, int64_t, int64_t))

Range transpose_range(const Transpose& params) { HPVOD_DISPATCH_ISA(transpose_range(params)); }

void transpose_cpu(const Transpose& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(transpose(params, begin, end));
}

}  // namespace hpvod
