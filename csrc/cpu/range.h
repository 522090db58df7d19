// How the work of a CPU kernel is spread: by its caller, over the caller's own threads.
#pragma once

#include <cstdint>

namespace hpvod {

// Independent items [0, items). `grain`: those that are worth waking a thread for.
struct Range {
  int64_t items;
  int64_t grain;
};

}  // namespace hpvod
