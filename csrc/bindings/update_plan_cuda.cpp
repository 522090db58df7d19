// update_plan on CUDA.
#include "update_plan.h"

namespace hpvod {
namespace {

void update_plan(Tensor q, double tau, double gamma, std::optional<Tensor> key,
                 std::vector<int64_t> sets, Tensor mask, Tensor is_key, Tensor changed,
                 Tensor pixels, Tensor counts) {
  UpdatePlan params =
      check_update_plan(q, tau, gamma, key, sets, mask, is_key, changed, pixels, counts);
  const torch::stable::accelerator::DeviceGuard guard(q.get_device_index());
  const Tensor workspace = empty_bytes(q, update_plan_workspace(params));
  params.workspace = workspace.mutable_data_ptr();
  const char* error = launch_update_plan(params, current_cuda_stream(q));
  STD_TORCH_CHECK(!error, "update_plan: ", error ? error : "");
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_IMPL(hpvod, CUDA, m) { m.impl("update_plan", TORCH_BOX(&hpvod::update_plan)); }
