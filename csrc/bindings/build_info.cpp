// What was built, for `python -m hpvod_ops`.
#include "../cpu/isa.h"
#include "stable_compat.h"

namespace {
std::string cpu_isa() { return hpvod::cpu_isa_name(); }
}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def("cpu_isa() -> str");
  m.def("cuda_architectures() -> str");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CompositeExplicitAutograd, m) {
  m.impl("cpu_isa", TORCH_BOX(&cpu_isa));
}
