// The work of a CPU kernel, shared among PyTorch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>

#include "../cpu/range.h"

namespace hpvod {

// Calls work(begin, end) for parts of range's items. A thread takes a part of what is left as often
// as it is free: of cores whose speed differs, or that other programs use too, none waits long for
// another. Where there is too little that could be parted, each takes one equal part.
template <typename Work>
void share_work(const Range& range, const Work& work) {
  const int64_t groups = range.items / range.together;
  const int64_t threads = torch::stable::get_num_threads();
  if (threads == 1 || groups < 4 * threads || range.items < 2 * range.grain) {
    torch::stable::parallel_for(0, range.items, range.grain, work);
    return;
  }
  const int64_t at_least = std::max<int64_t>(1, range.grain / range.together);
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    int64_t begin = next.load(std::memory_order_relaxed);
    while (begin < groups) {
      // Half of a thread's share of what is left: parts are few, and the last ones small.
      const int64_t count = std::max(at_least, (groups - begin) / (2 * threads));
      const int64_t end = begin + count < groups ? begin + count : groups;
      if (next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) {
        work(begin * range.together, end < groups ? end * range.together : range.items);
        begin = next.load(std::memory_order_relaxed);
      }
    }
  });
}

}  // namespace hpvod
