// masked_max_pool2d on CUDA.
#include "masked_max_pool2d.h"

namespace hpvod {
namespace {

void masked_max_pool2d(Tensor out, Tensor x, Tensor pixels, Tensor count, int64_t kernel,
                       int64_t stride, int64_t padding) {
  const MaskedMaxPool2d params =
      check_masked_max_pool2d(out, x, pixels, count, kernel, stride, padding);
  const torch::stable::accelerator::DeviceGuard guard(out.get_device_index());
  const char* error = launch_masked_max_pool2d(params, current_cuda_stream(out));
  STD_TORCH_CHECK(!error, "masked_max_pool2d_: ", error ? error : "");
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_IMPL(hpvod, CUDA, m) {
  m.impl("masked_max_pool2d_", TORCH_BOX(&hpvod::masked_max_pool2d));
}
