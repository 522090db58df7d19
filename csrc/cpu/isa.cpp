#include "isa.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace hpvod {
namespace {

constexpr const char* kNames[] = {"portable", "avx2", "avx512"};

Isa detect() {
  Isa best = Isa::kPortable;
#ifdef HPVOD_X86
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = Isa::kAvx2;
  if (best == Isa::kAvx2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    best = Isa::kAvx512;
  }
#endif
  if (const char* limit = std::getenv("HPVOD_CPU_ISA")) {
    for (int isa = 0; isa < 3; ++isa) {
      if (std::strcmp(limit, kNames[isa]) == 0) best = std::min(best, static_cast<Isa>(isa));
    }
  }
  return best;
}

}  // namespace

Isa cpu_isa() {
  static const Isa isa = detect();
  return isa;
}

const char* cpu_isa_name() { return kNames[static_cast<int>(cpu_isa())]; }

}  // namespace hpvod
