#include "masked_conv2d.h"

#include "isa/dispatch.h"

namespace hpvod {

HPVOD_FOR_EACH_ISA(int64_t packed_conv2d_weight_size(DType, int64_t, int64_t))
HPVOD_FOR_EACH_ISA(void pack_conv2d_weight(const PackConv2dWeight&))
HPVOD_FOR_EACH_ISA(Range masked_conv2d_range(const MaskedConv2d&))
HPVOD_FOR_EACH_ISA(void masked_conv2d(const MaskedConv2d&, int64_t, int64_t))

int64_t packed_conv2d_weight_size(DType dtype, int64_t out_channels, int64_t depth) {
  HPVOD_DISPATCH_ISA(packed_conv2d_weight_size(dtype, out_channels, depth));
}

void pack_conv2d_weight_cpu(const PackConv2dWeight& params) {
  HPVOD_DISPATCH_ISA(pack_conv2d_weight(params));
}

Range masked_conv2d_range(const MaskedConv2d& params) {
  HPVOD_DISPATCH_ISA(masked_conv2d_range(params));
}

void masked_conv2d_cpu(const MaskedConv2d& params, int64_t begin, int64_t end) {
  HPVOD_DISPATCH_ISA(masked_conv2d(params, begin, end));
}

}  // namespace hpvod
