// Which of the instruction sets that csrc/cpu/isa was compiled for this processor runs.
#pragma once

namespace hpvod {

enum class Isa { kPortable, kAvx2, kAvx512 };

// The best one, or the one that the environment variable HPVOD_CPU_ISA (portable, avx2
// or avx512) limits it to. Read once.
Isa cpu_isa();
const char* cpu_isa_name();

// Whether the processor is Intel's: theirs foresee more of what a loop reads than AMD's do.
bool cpu_is_intel();

}  // namespace hpvod
