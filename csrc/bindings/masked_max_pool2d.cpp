// masked_max_pool2d: the schema, and the CPU's implementation.
#include "masked_max_pool2d.h"

#include "../cpu/masked_max_pool2d.h"
#include "share_work.h"

namespace hpvod {
namespace {

void masked_max_pool2d(Tensor out, Tensor x, Tensor pixels, Tensor count, int64_t kernel,
                       int64_t stride, int64_t padding) {
  const MaskedMaxPool2d params =
      check_masked_max_pool2d(out, x, pixels, count, kernel, stride, padding);
  const Range range = masked_max_pool2d_range(params);
  share_work(range, [&](int64_t begin, int64_t end) { masked_max_pool2d_cpu(params, begin, end); });
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def(
      "masked_max_pool2d_(Tensor(a!) out, Tensor x, Tensor pixels, Tensor count, int kernel, "
      "int stride, int padding) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) {
  m.impl("masked_max_pool2d_", TORCH_BOX(&hpvod::masked_max_pool2d));
}
