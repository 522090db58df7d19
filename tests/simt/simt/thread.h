// A thread of a block, and what it may wait for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "fiber.h"
#include "site.h"
#include "types.h"

namespace simt {

enum class State { kReady, kBlockBarrier, kWarp, kActiveMask, kExited };

// What the lanes named in a mask do together. A lane that has arrived with the same
// name, mask and place as all others goes on.
struct WarpCall {
  const char* name;
  uint32_t mask;
  Site site;
  uint64_t value;  // the lane's contribution
  int source;      // the lane whose value is wanted

  bool meets(const WarpCall& other) const {
    return name == other.name && mask == other.mask && site == other.site;
  }
};

struct Thread {
  Fiber fiber;
  uint3 index;
  State state = State::kReady;
  Site barrier;            // where it waits, if for its block
  bool predicate = false;  // its argument of __syncthreads_count and the like
  WarpCall call = {};      // what it waits for, if for its warp
  uint64_t result = 0;     // what waiting gave
};

// The order in which threads and blocks run, which no correct kernel depends on.
// HPVOD_SIMT_ORDER is `forward` (default), `reversed` or the seed of a shuffle.
inline std::vector<unsigned> run_order(size_t count) {
  std::vector<unsigned> order(count);
  for (size_t i = 0; i < count; ++i) order[i] = static_cast<unsigned>(i);
  const char* wanted = std::getenv("HPVOD_SIMT_ORDER");
  const std::string name = wanted == nullptr ? "forward" : wanted;
  if (name == "reversed") {
    std::reverse(order.begin(), order.end());
  } else if (name != "forward") {
    std::shuffle(order.begin(), order.end(), std::mt19937(std::stoul(name)));
  }
  return order;
}

}  // namespace simt
