// warp_pixels: the schema, and the CPU's implementation.
#include "warp_pixels.h"

#include "../cpu/warp_pixels.h"
#include "share_work.h"

namespace hpvod {
namespace {

void warp_pixels(Tensor out, Tensor feature, Tensor flow, std::optional<Tensor> scale,
                 Tensor pixels, Tensor count, int64_t ratio) {
  const WarpPixels params = check_warp_pixels(out, feature, flow, scale, pixels, count, ratio);
  const Range range = warp_pixels_range(params);
  share_work(range, [&](int64_t begin, int64_t end) { warp_pixels_cpu(params, begin, end); });
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def(
      "warp_pixels_(Tensor(a!) out, Tensor feature, Tensor flow, Tensor? scale, Tensor pixels, "
      "Tensor count, int ratio) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) { m.impl("warp_pixels_", TORCH_BOX(&hpvod::warp_pixels)); }
