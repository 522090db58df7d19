// masked_conv2d on CUDA.
#include "masked_conv2d.h"

namespace hpvod {
namespace {

void masked_conv2d(Tensor out, Tensor x, Tensor weight, std::optional<Tensor> bias,
                   std::optional<Tensor> residual, Tensor pixels, Tensor count,
                   std::vector<int64_t> kernel, int64_t stride, int64_t padding, int64_t dilation,
                   bool relu) {
  MaskedConv2d params = check_masked_conv2d(out, x, weight, bias, residual, pixels, count, kernel,
                                            stride, padding, dilation, relu);
  STD_TORCH_CHECK(weight.scalar_type() == out.scalar_type() &&
                      weight.numel() == out.size(1) * kernel[0] * kernel[1] * x.size(1),
                  "masked_conv2d_: weight must be [O, kernel_height, kernel_width, I] in out's "
                  "dtype, with out's and x's channels; it is ",
                  shape_text(weight));
  const torch::stable::accelerator::DeviceGuard guard(out.get_device_index());
  const Tensor workspace = empty_bytes(out, masked_conv2d_workspace(params));
  params.workspace = workspace.mutable_data_ptr();
  const char* error = launch_masked_conv2d(params, current_cuda_stream(out));
  STD_TORCH_CHECK(!error, "masked_conv2d_: ", error ? error : "");
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_IMPL(hpvod, CUDA, m) {
  m.impl("masked_conv2d_", TORCH_BOX(&hpvod::masked_conv2d));
}
