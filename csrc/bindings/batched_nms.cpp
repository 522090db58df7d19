// batched_nms: the schema, and the CPU's implementation.
#include "batched_nms.h"

#include "../cpu/batched_nms.h"
#include "share_work.h"

namespace hpvod {
namespace {

std::tuple<Tensor, Tensor> batched_nms(Tensor boxes, Tensor labels, Tensor order,
                                       std::optional<Tensor> valid, double threshold,
                                       int64_t count) {
  check_batched_nms(boxes, labels, order, valid, count);
  const BatchedNmsCall call(boxes, labels, order, valid, threshold, count);
  const Tensor workspace = empty_bytes(boxes, batched_nms_workspace_cpu(call.params));
  void* kept = workspace.mutable_data_ptr();
  const Range range = batched_nms_range(call.params);
  share_work(range,
             [&](int64_t begin, int64_t end) { batched_nms_cpu(call.params, kept, begin, end); });
  return call.result();
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def(
      "batched_nms(Tensor boxes, Tensor labels, Tensor order, Tensor? valid, float threshold, "
      "int count) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) { m.impl("batched_nms", TORCH_BOX(&hpvod::batched_nms)); }
