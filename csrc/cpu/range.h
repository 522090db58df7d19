// How the work of a CPU kernel is spread: by its caller, over the caller's own threads.
#pragma once

#include <cstdint>

namespace hpvod {

// Independent items [0, items).
struct Range {
  int64_t items;
  int64_t grain;         // those that are worth waking a thread for
  int64_t together = 1;  // neighbours that read the same, and so better stay with one thread
};

}  // namespace hpvod
