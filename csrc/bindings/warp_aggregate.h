// What the bindings of warp_aggregate for the CPU and for CUDA share: checks and layouts.
#pragma once

#include "../kernels/bilinear.h"
#include "../kernels/warp_aggregate.h"
#include "stable_compat.h"

namespace hpvod {

// The arguments of the op; the names are the schema's.
struct WarpAggregateMaps {
  Tensor key_feature;
  Tensor key_embedding;
  Tensor feature;
  Tensor embedding;
  Tensor flow;
  std::optional<Tensor> mask;
  std::optional<Tensor> own_feature;
  std::optional<Tensor> own_embedding;
  std::optional<Tensor> scale;

  // The Python function words the errors for its users; these checks keep a direct call of
  // torch.ops.hpvod.warp_aggregate from reading memory that is not the tensors' own.
  void check() const {
    STD_TORCH_CHECK(feature.dim() == 4, kOp, ": feature must be [N, C, H, W], not ",
                    shape_text(feature));
    STD_TORCH_CHECK(embedding.dim() == 4, kOp, ": embedding must be [N, E, H, W], not ",
                    shape_text(embedding));
    // A pixel's index within its map is an int in the kernels.
    STD_TORCH_CHECK(feature.size(2) * feature.size(3) < kMaxSide, kOp,
                    ": feature has too many pixels: ", shape_text(feature));
    const auto dtype = dtype_of(feature), flow_dtype = dtype_of(flow);
    STD_TORCH_CHECK(dtype, kOp, ": feature must be float32, float16, bfloat16 or float64");
    check_like("key_feature", key_feature, feature);
    check_like("embedding", embedding, embedding);
    check_like("key_embedding", key_embedding, embedding);
    check_map("flow", flow, 2);
    STD_TORCH_CHECK(flow_dtype && (*flow_dtype == *dtype || *flow_dtype == DType::kFloat32), kOp,
                    ": flow must have the feature's dtype, or be float32");
    STD_TORCH_CHECK(mask.has_value() == own_feature.has_value() &&
                        mask.has_value() == own_embedding.has_value() && (mask || !scale),
                    kOp, ": mask, own_feature and own_embedding go together, and scale with them");
    if (!mask) return;
    check_map("mask", *mask, 1);
    STD_TORCH_CHECK(mask->scalar_type() == ScalarType::Bool, kOp, ": mask must be bool");
    check_like("own_feature", *own_feature, feature);
    check_like("own_embedding", *own_embedding, embedding);
    if (scale) check_like("scale", *scale, feature);
  }

  void check_like(const char* name, const Tensor& map, const Tensor& like) const {
    check_map(name, map, like.size(1));
    STD_TORCH_CHECK(map.scalar_type() == feature.scalar_type(), kOp, ": ", name,
                    " must have the feature's dtype");
  }

  Tensor empty_output(Layout layout) const { return empty_map(feature, feature.sizes(), layout); }

  // As a kernel reads them, by a function such as `dense`.
  template <typename Dense>
  WarpAggregateMaps as_read(Layout layout, Dense dense) const {
    const auto in_layout = [&](const Tensor& map) { return dense(map, layout); };
    const auto or_null = [](const std::optional<Tensor>& map, auto convert) {
      return map ? std::optional<Tensor>(convert(*map)) : std::nullopt;
    };
    const auto contiguous = [](const Tensor& map) { return torch::stable::contiguous(map); };
    return {in_layout(key_feature),
            in_layout(key_embedding),
            in_layout(feature),
            in_layout(embedding),
            contiguous(flow),
            or_null(mask, contiguous),
            or_null(own_feature, in_layout),
            or_null(own_embedding, in_layout),
            or_null(scale, in_layout)};
  }

  // Of dense maps.
  WarpAggregate params(const Tensor& output) const {
    const auto pointer = [](const std::optional<Tensor>& map) {
      return map ? map->const_data_ptr() : nullptr;
    };
    return {feature.size(0),
            feature.size(1),
            embedding.size(1),
            feature.size(2),
            feature.size(3),
            *dtype_of(feature),
            *dtype_of(flow),
            key_feature.const_data_ptr(),
            key_embedding.const_data_ptr(),
            feature.const_data_ptr(),
            embedding.const_data_ptr(),
            flow.const_data_ptr(),
            pointer(mask),
            pointer(own_feature),
            pointer(own_embedding),
            pointer(scale),
            output.mutable_data_ptr()};
  }

 private:
  static constexpr const char* kOp = "warp_aggregate";

  void check_map(const char* name, const Tensor& map, int64_t channels) const {
    STD_TORCH_CHECK(map.dim() == 4 && map.size(0) == feature.size(0) && map.size(1) == channels &&
                        map.size(2) == feature.size(2) && map.size(3) == feature.size(3),
                    kOp, ": ", name, " must be [N, ", channels,
                    ", H, W], with the feature's N, H and W; ", "feature is ", shape_text(feature),
                    ", ", name, " is ", shape_text(map));
    STD_TORCH_CHECK(map.device() == feature.device(), kOp, ": ", name,
                    " is not on the feature's device");
  }
};

}  // namespace hpvod
