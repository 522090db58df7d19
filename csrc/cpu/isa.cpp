#include "isa.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#ifdef HPVOD_X86
#include <cpuid.h>
#endif

namespace hpvod {
namespace {

constexpr const char* kNames[] = {"portable", "avx2", "avx512"};

Isa detect() {
  Isa best = Isa::kPortable;
#ifdef HPVOD_X86
  // Older compilers' __builtin_cpu_supports knows no F16C.
  unsigned eax, ebx, ecx = 0, edx;
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
  if (f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = Isa::kAvx2;
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

bool cpu_is_intel() {
#ifdef HPVOD_X86
  return __builtin_cpu_is("intel");
#else
  return false;
#endif
}

const char* cpu_isa_name() { return kNames[static_cast<int>(cpu_isa())]; }

}  // namespace hpvod
