// What the bindings of update_plan for the CPU and for CUDA share: checks.
#pragma once

#include <algorithm>

#include "../kernels/update_plan.h"
#include "pixel_list.h"

namespace hpvod {

// Fills everything but the workspace.
inline UpdatePlan check_update_plan(const Tensor& q, double tau, double gamma,
                                    const std::optional<Tensor>& key,
                                    const std::vector<int64_t>& sets, const Tensor& mask,
                                    const Tensor& is_key, const Tensor& changed,
                                    const Tensor& pixels, const Tensor& counts) {
  const char* op = "update_plan";
  const auto dtype = dtype_of(q);
  STD_TORCH_CHECK(q.dim() == 4 && q.size(1) == 1 && q.is_contiguous() && dtype, op,
                  ": q must be [N, 1, h, w], contiguous, of a floating-point dtype, not ",
                  shape_text(q));
  const int64_t batch = q.size(0), height = q.size(2), width = q.size(3);
  STD_TORCH_CHECK(mask.dim() == 4 && mask.numel() == q.numel() && mask.is_contiguous() &&
                      mask.scalar_type() == ScalarType::Bool && mask.device() == q.device(),
                  op, ": mask must be bool, of q's shape and on its device");
  const auto is_of_frames = [&](const Tensor& tensor, ScalarType type) {
    return is_vector_of(tensor, type, q) && tensor.size(0) == batch;
  };
  STD_TORCH_CHECK(!key || is_of_frames(*key, ScalarType::Bool), op, ": key must be bool [N]");
  STD_TORCH_CHECK(is_of_frames(is_key, ScalarType::Bool), op, ": is_key must be bool [N]");
  STD_TORCH_CHECK(is_of_frames(changed, ScalarType::Int), op, ": changed must be int32 [N]");
  constexpr int64_t kFields = 6;
  const int64_t set_count = static_cast<int64_t>(sets.size()) / kFields;
  STD_TORCH_CHECK(
      static_cast<int64_t>(sets.size()) == kFields * set_count && set_count <= kMaxPixelSets, op,
      ": sets must be six integers each, and at most ", kMaxPixelSets, " sets");
  STD_TORCH_CHECK(is_vector_of(counts, ScalarType::Int, q) && counts.size(0) == set_count, op,
                  ": counts must be int32, one for each set");
  STD_TORCH_CHECK(is_vector_of(pixels, ScalarType::Int, q), op, ": pixels must be int32, 1-d");
  UpdatePlan plan{batch,
                  height,
                  width,
                  *dtype,
                  tau,
                  gamma,
                  q.const_data_ptr(),
                  key ? static_cast<const bool*>(key->const_data_ptr()) : nullptr,
                  static_cast<bool*>(mask.mutable_data_ptr()),
                  static_cast<bool*>(is_key.mutable_data_ptr()),
                  static_cast<int32_t*>(changed.mutable_data_ptr()),
                  static_cast<int32_t>(set_count),
                  {},
                  static_cast<int32_t*>(pixels.mutable_data_ptr()),
                  static_cast<int32_t*>(counts.mutable_data_ptr()),
                  nullptr};
  for (int64_t i = 0; i < set_count; ++i) {
    const int64_t* field = sets.data() + kFields * i;
    constexpr int64_t kMost = 1 << 29;
    const bool small = std::all_of(field + 1, field + 5, [](int64_t n) { return n < kMost; });
    const int64_t area = small ? field[3] * field[4] : kMost, offset = field[5];
    STD_TORCH_CHECK(field[0] >= 0 && field[0] <= 3 && field[1] > 0 && field[2] > 0 &&
                        field[3] >= 0 && field[4] >= 0 && offset >= 0 && area < kMost &&
                        batch * area < kMost && offset + batch * area <= pixels.size(0) &&
                        (batch * area == 0 || height * width > 0),
                    op, ": set ", i, " is not (kind, ratio, dilation, height, width, offset) with ",
                    "room for all its pixels");
    plan.sets[i] = {static_cast<PixelSetKind>(field[0]), static_cast<int32_t>(field[1]),
                    static_cast<int32_t>(field[2]),      static_cast<int32_t>(field[3]),
                    static_cast<int32_t>(field[4]),      offset};
  }
  return plan;
}

}  // namespace hpvod
