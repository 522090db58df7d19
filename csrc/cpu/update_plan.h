// update_plan on the CPU.
#pragma once

#include "../kernels/update_plan.h"

namespace hpvod {

// U, the key decision and what Q says of it: `mask`, `is_key` and `changed`.
void update_mask_cpu(const UpdatePlan& params);

// The lists [begin, end), once the mask is there.
void update_plan_cpu(const UpdatePlan& params, int64_t begin, int64_t end);

}  // namespace hpvod
