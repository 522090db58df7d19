// Contiguous maps in runs: a channel is a plane there, and what the loops over rows of channels
// hold in the lanes of a register, `kRun` adjacent pixels hold in an array. Sums are made in the
// order in which those loops make them, so that results have the same bits in either layout.
#pragma once

#include <algorithm>
#include <memory>

#include "maps.h"

namespace hpvod {
namespace HPVOD_ISA {

constexpr int64_t kRun = 128;        // pixels; many, for every plane lies on pages of its own
constexpr int64_t kPlanesAhead = 4;  // that are asked for before they are read

inline int64_t runs_of(int64_t area) { return (area + kRun - 1) / kRun; }

// Calls vector(pixel, count) for the vectors of a run.
template <typename T, typename Function>
HPVOD_INLINE void for_each_pixel(int64_t pixels, Function vector) {
  int64_t p = 0;
  for (; p + kLanes<T> <= pixels; p += kLanes<T>) vector(p, kLanes<T>);
  if (p < pixels) vector(p, pixels - p);
}

template <typename T>
HPVOD_INLINE void fetch_run(const T* run) {
  constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t p = 0; p < kRun; p += line) __builtin_prefetch(run + p, 0, 2);
}

// For each pixel of a run, a sum over channels as a loop over rows makes it: kVectors vectors at a
// time, each with its own sum in every lane, and what is left of the channels in the first.
template <typename T, int kVectors>
class RunSums {
 public:
  using A = accumulate_t<T>;

  RunSums() : sums_(new A[kSums * kRun]) {}

  void clear() { std::fill_n(sums_.get(), kSums * kRun, A{}); }

  // Of the run's pixels, the sum that a channel is added to.
  A* of_channel(int64_t channel, int64_t channels) {
    const int64_t within = channel % kSums;
    return sums_.get() + (channel < channels / kSums * kSums ? within : within % kLanes<T>)*kRun;
  }

  // The sums over all channels, [kRun].
  const A* total() {
    static_assert(kVectors == 2 || kVectors == 4);
    constexpr int64_t lanes = kLanes<T>;
    if constexpr (kVectors == 4) {
      fold(lanes, [&](int64_t i, int64_t p) {
        return (at(i, p) + at(i + lanes, p)) + (at(i + 2 * lanes, p) + at(i + 3 * lanes, p));
      });
    } else {
      fold(lanes, [&](int64_t i, int64_t p) { return at(i, p) + at(i + lanes, p); });
    }
    for (int64_t half = lanes / 2; half > 0; half /= 2) {  // as sum_lanes
      fold(half, [&](int64_t i, int64_t p) { return at(i, p) + at(i + half, p); });
    }
    return sums_.get();
  }

 private:
  static constexpr int64_t kSums = kVectors * kLanes<T>;

  A at(int64_t i, int64_t p) const { return sums_[i * kRun + p]; }

  template <typename Sum>
  HPVOD_INLINE void fold(int64_t count, Sum sum) {
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t p = 0; p < kRun; ++p) sums_[i * kRun + p] = sum(i, p);
    }
  }

  const std::unique_ptr<A[]> sums_;  // [kSums, kRun]
};

}  // namespace HPVOD_ISA
}  // namespace hpvod
