// warp on CUDA.
#include <tuple>

#include "warp.h"

namespace hpvod {
namespace {

Tensor warp(Tensor feature, Tensor flow, std::optional<Tensor> scale) {
  const WarpShape shape = check_warp(feature, flow, scale);
  const torch::stable::accelerator::DeviceGuard guard(feature.get_device_index());
  const Tensor output = empty_map(feature, output_sizes(shape), shape.layout);
  if (is_empty(shape)) return output;
  feature = dense(feature, shape.layout);
  flow = torch::stable::contiguous(flow);
  if (scale) scale = dense(*scale, shape.layout);
  const char* error =
      launch_warp_forward({shape, feature.const_data_ptr(), flow.const_data_ptr(),
                           scale ? scale->const_data_ptr() : nullptr, output.mutable_data_ptr()},
                          current_cuda_stream(feature));
  STD_TORCH_CHECK(!error, "warp: ", error ? error : "");
  return output;
}

std::tuple<Tensor, Tensor, Tensor> warp_backward(Tensor grad_output, Tensor feature, Tensor flow,
                                                 std::optional<Tensor> scale, bool need_feature,
                                                 bool need_flow, bool need_scale) {
  const WarpShape shape = check_warp(feature, flow, scale);
  check_warp_gradient(shape, feature, grad_output);
  const torch::stable::accelerator::DeviceGuard guard(feature.get_device_index());
  const WarpGradients gradients(shape, feature, flow, need_feature, need_flow, need_scale && scale);
  if (is_empty(shape)) return gradients.zeroed();
  grad_output = dense(grad_output, shape.layout);
  feature = dense(feature, shape.layout);
  flow = torch::stable::contiguous(flow);
  if (scale) scale = dense(*scale, shape.layout);
  const Tensor workspace = empty_bytes(feature, need_feature ? warp_backward_workspace(shape) : 0);
  const char* error =
      launch_warp_backward(gradients.params(shape, feature, flow, scale, grad_output, workspace),
                           current_cuda_stream(feature));
  STD_TORCH_CHECK(!error, "warp_backward: ", error ? error : "");
  return gradients.result();
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_IMPL(hpvod, CUDA, m) {
  m.impl("warp", TORCH_BOX(&hpvod::warp));
  m.impl("warp_backward", TORCH_BOX(&hpvod::warp_backward));
}
