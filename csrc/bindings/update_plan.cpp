// update_plan: the schema, and the CPU's implementation.
#include "update_plan.h"

#include "../cpu/update_plan.h"
#include "share_work.h"

namespace hpvod {
namespace {

void update_plan(Tensor q, double tau, double gamma, std::optional<Tensor> key,
                 std::vector<int64_t> sets, Tensor mask, Tensor is_key, Tensor changed,
                 Tensor pixels, Tensor counts) {
  const UpdatePlan params =
      check_update_plan(q, tau, gamma, key, sets, mask, is_key, changed, pixels, counts);
  update_mask_cpu(params);
  share_work({params.set_count, 1},
             [&](int64_t begin, int64_t end) { update_plan_cpu(params, begin, end); });
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def(
      "update_plan(Tensor q, float tau, float gamma, Tensor? key, int[] sets, Tensor(a!) mask, "
      "Tensor(b!) is_key, Tensor(c!) changed, Tensor(d!) pixels, Tensor(e!) counts) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) { m.impl("update_plan", TORCH_BOX(&hpvod::update_plan)); }
