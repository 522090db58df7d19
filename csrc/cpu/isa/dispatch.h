// Calls the function of csrc/cpu/isa that was compiled for this processor.
#pragma once

#include "../isa.h"

#ifdef HPVOD_X86
#define HPVOD_FOR_EACH_ISA(declaration) \
  namespace portable {                  \
  declaration;                          \
  }                                     \
  namespace avx2 {                      \
  declaration;                          \
  }                                     \
  namespace avx512 {                    \
  declaration;                          \
  }
#define HPVOD_DISPATCH_ISA(call) \
  switch (cpu_isa()) {           \
    case Isa::kAvx512:           \
      return avx512::call;       \
    case Isa::kAvx2:             \
      return avx2::call;         \
    default:                     \
      return portable::call;     \
  }
#else
#define HPVOD_FOR_EACH_ISA(declaration) \
  namespace portable {                  \
  declaration;                          \
  }
#define HPVOD_DISPATCH_ISA(call) return portable::call
#endif
