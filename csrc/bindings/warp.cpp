// warp: the schema, and the CPU's implementation.
#include "warp.h"

#include <tuple>

#include "../cpu/warp.h"
#include "share_work.h"

namespace hpvod {
namespace {

Tensor warp(Tensor feature, Tensor flow, std::optional<Tensor> scale) {
  const WarpShape shape = check_warp(feature, flow, scale);
  const Tensor output = empty_map(feature, output_sizes(shape), shape.layout);
  if (is_empty(shape)) return output;
  feature = dense(feature, shape.layout);
  flow = torch::stable::contiguous(flow);
  if (scale) scale = dense(*scale, shape.layout);
  const WarpForward params{shape, feature.const_data_ptr(), flow.const_data_ptr(),
                           scale ? scale->const_data_ptr() : nullptr, output.mutable_data_ptr()};
  const Range range = warp_forward_range(shape);
  share_work(range, [&](int64_t begin, int64_t end) { warp_forward_cpu(params, begin, end); });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> warp_backward(Tensor grad_output, Tensor feature, Tensor flow,
                                                 std::optional<Tensor> scale, bool need_feature,
                                                 bool need_flow, bool need_scale) {
  const WarpShape shape = check_warp(feature, flow, scale);
  check_warp_gradient(shape, feature, grad_output);
  const WarpGradients gradients(shape, feature, flow, need_feature, need_flow, need_scale && scale);
  if (is_empty(shape)) return gradients.zeroed();
  grad_output = dense(grad_output, shape.layout);
  feature = dense(feature, shape.layout);
  flow = torch::stable::contiguous(flow);
  if (scale) scale = dense(*scale, shape.layout);
  const Tensor workspace = empty_bytes(feature, warp_backward_workspace_cpu(shape));
  const WarpBackward params = gradients.params(shape, feature, flow, scale, grad_output, workspace);
  const auto spread = [&](Range range, auto kernel) {
    share_work(range, [&](int64_t begin, int64_t end) { kernel(params, begin, end); });
  };
  if (need_feature) {
    warp_link_cpu(params);
    spread(warp_grad_feature_range(shape), warp_grad_feature_cpu);
  }
  if (need_flow || params.grad_scale) spread(warp_grad_flow_range(shape), warp_grad_flow_cpu);
  if (need_flow) warp_grad_flow_sum_cpu(params);
  return gradients.result();
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def("warp(Tensor feature, Tensor flow, Tensor? scale) -> Tensor");
  m.def(
      "warp_backward(Tensor grad_output, Tensor feature, Tensor flow, Tensor? scale, "
      "bool need_feature, bool need_flow, bool need_scale) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) {
  m.impl("warp", TORCH_BOX(&hpvod::warp));
  m.impl("warp_backward", TORCH_BOX(&hpvod::warp_backward));
}
