// Why a block cannot go on, told by what each of its threads waits for.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "report.h"
#include "thread.h"

namespace simt {

inline std::string situation(const Thread& thread) {
  switch (thread.state) {
    case State::kExited:
      return "returned";
    case State::kWarp:
      return "in " + std::string(thread.call.name) + " at " + thread.call.site.str() +
             " with mask " + hex(thread.call.mask);
    default:
      return "at __syncthreads at " + thread.barrier.str();
  }
}

// "(0,0,0)-(31,0,0), (40,0,0)" for the threads of these ascending numbers.
inline std::string ranges(const std::vector<Thread>& threads,
                          const std::vector<unsigned>& numbers) {
  std::string text;
  for (size_t first = 0, last = 0; first < numbers.size(); first = last + 1) {
    last = first;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += (first == 0 ? "" : ", ") + str(threads[numbers[first]].index);
    if (last > first) text += "-" + str(threads[numbers[last]].index);
  }
  return text;
}

// One line for the threads in each situation.
inline std::string describe_deadlock(const std::vector<Thread>& threads, const std::string& where) {
  std::vector<std::pair<std::string, std::vector<unsigned>>> groups;
  bool barrier = false;
  for (unsigned i = 0; i < threads.size(); ++i) {
    barrier = barrier || threads[i].state == State::kBlockBarrier;
    const std::string words = situation(threads[i]);
    auto same = std::find_if(groups.begin(), groups.end(),
                             [&](const auto& group) { return group.first == words; });
    if (same == groups.end()) same = groups.insert(groups.end(), {words, {}});
    same->second.push_back(i);
  }
  std::string text = barrier ? "simt: divergent barrier in " : "simt: divergent warp in ";
  text += where;
  for (const auto& [words, numbers] : groups) {
    text += "\n  " + words + ": " + std::to_string(numbers.size()) + " threads, " +
            ranges(threads, numbers);
  }
  return text;
}

}  // namespace simt
