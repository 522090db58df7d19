// What the bindings of warp for the CPU and for CUDA share: checks and allocation.
#pragma once

#include <tuple>

#include "stable_compat.h"

namespace hpvod {

// The Python function words the errors for its users; these checks keep a direct call of
// torch.ops.hpvod.warp from reading memory that is not the tensors' own.
inline WarpShape check_warp(const Tensor& feature, const Tensor& flow,
                            const std::optional<Tensor>& scale) {
  STD_TORCH_CHECK(feature.dim() == 4, "warp: feature must be [N, C, H, W], not ",
                  shape_text(feature));
  STD_TORCH_CHECK(flow.dim() == 4 && flow.size(1) == 2 && flow.size(2) == feature.size(2) &&
                      flow.size(3) == feature.size(3),
                  "warp: flow must be [N, 2, H, W] with the feature's H and W; feature is ",
                  shape_text(feature), ", flow is ", shape_text(flow));
  STD_TORCH_CHECK(feature.size(0) == flow.size(0) || feature.size(0) == 1,
                  "warp: feature's batch must be flow's, or 1; feature is ", shape_text(feature),
                  ", flow is ", shape_text(flow));
  // A pixel's index within its map is an int in the kernels.
  STD_TORCH_CHECK(feature.size(2) * feature.size(3) < (int64_t{1} << 29),
                  "warp: feature has too many pixels: ", shape_text(feature));
  const auto dtype = dtype_of(feature), flow_dtype = dtype_of(flow);
  STD_TORCH_CHECK(dtype, "warp: feature must be float32, float16, bfloat16 or float64");
  STD_TORCH_CHECK(flow_dtype && (*flow_dtype == *dtype || *flow_dtype == DType::kFloat32),
                  "warp: flow must have the feature's dtype, or be float32");
  STD_TORCH_CHECK(flow.device() == feature.device(), "warp: flow is not on the feature's device");
  const WarpShape shape{flow.size(0),    feature.size(0),    feature.size(1), feature.size(2),
                        feature.size(3), layout_of(feature), *dtype,          *flow_dtype};
  if (scale) {
    STD_TORCH_CHECK(scale->dim() == 4 && scale->size(0) == shape.batch &&
                        scale->size(1) == shape.channels && scale->size(2) == shape.height &&
                        scale->size(3) == shape.width,
                    "warp: scale must be [N, C, H, W], with flow's N and the feature's C, H and ",
                    "W; feature is ", shape_text(feature), ", flow is ", shape_text(flow),
                    ", scale is ", shape_text(*scale));
    STD_TORCH_CHECK(scale->scalar_type() == feature.scalar_type(),
                    "warp: scale must have the feature's dtype");
    STD_TORCH_CHECK(scale->device() == feature.device(),
                    "warp: scale is not on the feature's device");
  }
  return shape;
}

inline void check_warp_gradient(const WarpShape& shape, const Tensor& feature,
                                const Tensor& grad_output) {
  STD_TORCH_CHECK(grad_output.dim() == 4 && grad_output.size(0) == shape.batch &&
                      grad_output.size(1) == shape.channels &&
                      grad_output.size(2) == shape.height && grad_output.size(3) == shape.width,
                  "warp_backward: grad_output must have the output's shape, not ",
                  shape_text(grad_output));
  STD_TORCH_CHECK(grad_output.scalar_type() == feature.scalar_type() &&
                      grad_output.device() == feature.device(),
                  "warp_backward: grad_output must have the feature's dtype and device");
}

inline std::vector<int64_t> output_sizes(const WarpShape& shape) {
  return {shape.batch, shape.channels, shape.height, shape.width};
}

inline bool is_empty(const WarpShape& shape) {
  return shape.batch * shape.channels * shape.height * shape.width == 0;
}

// The gradients that an op returns; one that is not wanted is an empty tensor.
class WarpGradients {
 public:
  WarpGradients(const WarpShape& shape, const Tensor& feature, const Tensor& flow,
                bool need_feature, bool need_flow, bool need_scale)
      : feature_(allocate(need_feature, feature, feature.sizes(), shape.layout)),
        flow_(allocate(need_flow, flow, flow.sizes(), Layout::kContiguous)),
        scale_(allocate(need_scale, feature, output_sizes(shape), shape.layout)) {}

  WarpBackward params(const WarpShape& shape, const Tensor& feature, const Tensor& flow,
                      const std::optional<Tensor>& scale, const Tensor& grad_output,
                      const Tensor& workspace) const {
    return {shape,
            feature.const_data_ptr(),
            flow.const_data_ptr(),
            scale ? scale->const_data_ptr() : nullptr,
            grad_output.const_data_ptr(),
            pointer(feature_),
            pointer(flow_),
            pointer(scale_),
            workspace.mutable_data_ptr()};
  }

  std::tuple<Tensor, Tensor, Tensor> result() const { return {feature_, flow_, scale_}; }

  // Of an empty output: a map that nobody reads has gradient zero.
  std::tuple<Tensor, Tensor, Tensor> zeroed() const {
    for (Tensor gradient : {feature_, flow_, scale_}) torch::stable::zero_(gradient);
    return result();
  }

 private:
  static Tensor allocate(bool needed, const Tensor& like,
                         torch::headeronly::IntHeaderOnlyArrayRef sizes, Layout layout) {
    return needed ? empty_map(like, sizes, layout) : no_gradient(like);
  }

  static void* pointer(const Tensor& gradient) {
    return gradient.numel() ? gradient.mutable_data_ptr() : nullptr;
  }

  Tensor feature_;
  Tensor flow_;
  Tensor scale_;
};

}  // namespace hpvod
