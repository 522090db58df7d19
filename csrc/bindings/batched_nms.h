// What the bindings of batched_nms for the CPU and for CUDA share: checks and allocation.
#pragma once

#include <tuple>

#include "../kernels/batched_nms.h"
#include "stable_compat.h"

namespace hpvod {

// The Python function words the errors for its users; these checks keep a direct call of
// torch.ops.hpvod from reading or writing memory that is not the tensors' own.
inline void check_batched_nms(const Tensor& boxes, const Tensor& labels, const Tensor& order,
                              const std::optional<Tensor>& valid, int64_t count) {
  const char* op = "batched_nms";
  constexpr int64_t kMost = int64_t{1} << 30;
  STD_TORCH_CHECK(boxes.dim() == 3 && boxes.size(2) == 4 && boxes.size(1) <= kMost &&
                      boxes.scalar_type() == ScalarType::Float,
                  op, ": boxes must be float32 [N, K, 4], K at most 2^30, not ", shape_text(boxes));
  const auto is_beside = [&](const Tensor& tensor, ScalarType type) {
    return tensor.dim() == 2 && tensor.size(0) == boxes.size(0) &&
           tensor.size(1) == boxes.size(1) && tensor.scalar_type() == type &&
           tensor.device() == boxes.device();
  };
  STD_TORCH_CHECK(is_beside(labels, ScalarType::Long), op,
                  ": labels must be int64 [N, K] on boxes' device");
  STD_TORCH_CHECK(is_beside(order, ScalarType::Long), op,
                  ": order must be int64 [N, K] on boxes' device");
  STD_TORCH_CHECK(!valid || is_beside(*valid, ScalarType::Bool), op,
                  ": valid must be bool [N, K] on boxes' device");
  STD_TORCH_CHECK(count >= 0 && count <= kMost, op, ": count must be 0 to 2^30, not ", count);
}

inline Tensor empty_for_nms(const Tensor& like, const std::vector<int64_t>& sizes,
                            ScalarType type) {
  return torch::stable::empty({sizes.data(), sizes.size()}, type, std::nullopt, like.device());
}

// Of contiguous inputs, and the results to be filled.
struct BatchedNmsCall {
  Tensor boxes, labels, order;
  std::optional<Tensor> valid;
  Tensor indices, counts;
  BatchedNms params;

  BatchedNmsCall(const Tensor& all_boxes, const Tensor& all_labels, const Tensor& all_order,
                 const std::optional<Tensor>& all_valid, double threshold, int64_t count)
      : BatchedNmsCall(all_boxes, all_labels, all_order, all_valid, threshold, count,
                       empty_for_nms(all_boxes, {all_boxes.size(0), count}, ScalarType::Long),
                       empty_for_nms(all_boxes, {all_boxes.size(0)}, ScalarType::Int)) {}

  BatchedNmsCall(const Tensor& all_boxes, const Tensor& all_labels, const Tensor& all_order,
                 const std::optional<Tensor>& all_valid, double threshold, int64_t count,
                 const Tensor& indices, const Tensor& counts)
      : boxes(torch::stable::contiguous(all_boxes)),
        labels(torch::stable::contiguous(all_labels)),
        order(torch::stable::contiguous(all_order)),
        indices(indices),
        counts(counts) {
    if (all_valid) valid = torch::stable::contiguous(*all_valid);
    params = {boxes.size(0),
              boxes.size(1),
              count,
              static_cast<float>(threshold),
              static_cast<const float*>(boxes.const_data_ptr()),
              static_cast<const int64_t*>(labels.const_data_ptr()),
              static_cast<const int64_t*>(order.const_data_ptr()),
              valid ? static_cast<const bool*>(valid->const_data_ptr()) : nullptr,
              static_cast<int64_t*>(indices.mutable_data_ptr()),
              static_cast<int32_t*>(counts.mutable_data_ptr())};
  }

  std::tuple<Tensor, Tensor> result() const { return {indices, counts}; }
};

}  // namespace hpvod
