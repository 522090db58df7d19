// warp_pixels on CUDA.
#include "warp_pixels.h"

namespace hpvod {
namespace {

void warp_pixels(Tensor out, Tensor feature, Tensor flow, std::optional<Tensor> scale,
                 Tensor pixels, Tensor count, int64_t ratio) {
  const WarpPixels params = check_warp_pixels(out, feature, flow, scale, pixels, count, ratio);
  const torch::stable::accelerator::DeviceGuard guard(out.get_device_index());
  const char* error = launch_warp_pixels(params, current_cuda_stream(out));
  STD_TORCH_CHECK(!error, "warp_pixels_: ", error ? error : "");
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_IMPL(hpvod, CUDA, m) {
  m.impl("warp_pixels_", TORCH_BOX(&hpvod::warp_pixels));
}
