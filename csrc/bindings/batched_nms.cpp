// batched_nms: the schema, and the CPU's implementation.
#include "batched_nms.h"

#include <memory>

#include "../cpu/batched_nms.h"
#include "../cpu/best_first.h"
#include "share_work.h"

namespace hpvod {
namespace {

void run(const BatchedNmsCall& call) {
  const std::unique_ptr<char[]> workspace(new char[batched_nms_workspace_cpu(call.params)]);
  void* kept = workspace.get();
  const Range range = batched_nms_range(call.params);
  share_work(range,
             [&](int64_t begin, int64_t end) { batched_nms_cpu(call.params, kept, begin, end); });
}

std::tuple<Tensor, Tensor> batched_nms(Tensor boxes, Tensor labels, Tensor order,
                                       std::optional<Tensor> valid, double threshold,
                                       int64_t count) {
  check_batched_nms(boxes, labels, order, valid, count);
  const BatchedNmsCall call(boxes, labels, order, valid, threshold, count);
  run(call);
  return call.result();
}

void batched_nms_out(Tensor boxes, Tensor labels, Tensor order, std::optional<Tensor> valid,
                     double threshold, int64_t count, Tensor indices, Tensor counts) {
  check_batched_nms(boxes, labels, order, valid, count);
  STD_TORCH_CHECK(indices.dim() == 2 && indices.size(0) == boxes.size(0) &&
                      indices.size(1) == count && indices.scalar_type() == ScalarType::Long &&
                      indices.is_contiguous() && indices.device() == boxes.device(),
                  "batched_nms: indices must be contiguous int64 [N, count], not ",
                  shape_text(indices));
  STD_TORCH_CHECK(is_vector_of(counts, ScalarType::Int, boxes) && counts.size(0) == boxes.size(0),
                  "batched_nms: counts must be contiguous int32 [N], not ", shape_text(counts));
  run(BatchedNmsCall(boxes, labels, order, valid, threshold, count, indices, counts));
}

void best_first_out(Tensor scores, std::optional<Tensor> valid, Tensor order) {
  const auto is_beside = [&](const Tensor& tensor, ScalarType type) {
    return tensor.dim() == 2 && tensor.size(0) == scores.size(0) &&
           tensor.size(1) == scores.size(1) && tensor.scalar_type() == type;
  };
  STD_TORCH_CHECK(scores.dim() == 2 && scores.size(1) <= (int64_t{1} << 30) &&
                      scores.scalar_type() == ScalarType::Float,
                  "best_first: scores must be float32 [N, K], K at most 2^30, not ",
                  shape_text(scores));
  STD_TORCH_CHECK(!valid || is_beside(*valid, ScalarType::Bool),
                  "best_first: valid must be bool [N, K]");
  STD_TORCH_CHECK(is_beside(order, ScalarType::Long) && order.is_contiguous(),
                  "best_first: out must be contiguous int64 [N, K]");
  scores = torch::stable::contiguous(scores);
  if (valid) valid = torch::stable::contiguous(*valid);
  const BestFirst params{scores.size(0), scores.size(1),
                         static_cast<const float*>(scores.const_data_ptr()),
                         valid ? static_cast<const bool*>(valid->const_data_ptr()) : nullptr,
                         static_cast<int64_t*>(order.mutable_data_ptr())};
  share_work({params.batch, 1},
             [&](int64_t begin, int64_t end) { best_first_cpu(params, begin, end); });
}

Tensor best_first(Tensor scores, std::optional<Tensor> valid) {
  const Tensor order = torch::stable::empty(scores.sizes(), ScalarType::Long);
  best_first_out(scores, valid, order);
  return order;
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def(
      "batched_nms(Tensor boxes, Tensor labels, Tensor order, Tensor? valid, float threshold, "
      "int count) -> (Tensor, Tensor)");
  m.def(
      "batched_nms_out(Tensor boxes, Tensor labels, Tensor order, Tensor? valid, float threshold, "
      "int count, *, Tensor(a!) indices, Tensor(b!) counts) -> ()");
  m.def("best_first(Tensor scores, Tensor? valid) -> Tensor");
  m.def("best_first_out(Tensor scores, Tensor? valid, *, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) {
  m.impl("batched_nms", TORCH_BOX(&hpvod::batched_nms));
  m.impl("batched_nms_out", TORCH_BOX(&hpvod::batched_nms_out));
  m.impl("best_first", TORCH_BOX(&hpvod::best_first));
  m.impl("best_first_out", TORCH_BOX(&hpvod::best_first_out));
}
