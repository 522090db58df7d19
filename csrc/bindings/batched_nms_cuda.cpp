// batched_nms on CUDA.
#include "batched_nms.h"

namespace hpvod {
namespace {

std::tuple<Tensor, Tensor> batched_nms(Tensor boxes, Tensor labels, Tensor order,
                                       std::optional<Tensor> valid, double threshold,
                                       int64_t count) {
  check_batched_nms(boxes, labels, order, valid, count);
  const torch::stable::accelerator::DeviceGuard guard(boxes.get_device_index());
  const BatchedNmsCall call(boxes, labels, order, valid, threshold, count);
  const char* error = launch_batched_nms(call.params, current_cuda_stream(boxes));
  STD_TORCH_CHECK(!error, "batched_nms: ", error ? error : "");
  return call.result();
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_IMPL(hpvod, CUDA, m) { m.impl("batched_nms", TORCH_BOX(&hpvod::batched_nms)); }
