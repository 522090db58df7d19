// What was built, for `python -m hpvod_ops`.
#include "stable_compat.h"

namespace {
std::string cuda_architectures() { return HPVOD_CUDA_ARCHITECTURES; }
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(hpvod, CompositeExplicitAutograd, m) {
  m.impl("cuda_architectures", TORCH_BOX(&cuda_architectures));
}
