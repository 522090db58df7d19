// Contiguous maps in runs: a channel is a plane there, so the lanes of a register hold adjacent
// pixels, and a run of them is taken through all channels.
#pragma once

#include <algorithm>

#include "maps.h"

namespace hpvod {
namespace HPVOD_ISA {

constexpr int64_t kRun = 256;      // pixels at most: many, for every plane lies on pages of its own
constexpr int64_t kPlanes = 8;     // whose sum is made in a register before it goes to memory
constexpr int64_t kTogether = 32;  // a run is a multiple of it, of whole cache lines in all dtypes

// How a plane of `area` pixels is cut: into runs of one size, for equal shares of the threads.
struct Runs {
  int64_t pixels;  // of a run; the last may be shorter
  int64_t count;

  explicit Runs(int64_t area) {
    const int64_t parts = (area + kRun - 1) / kRun;
    const int64_t least = (area + parts - 1) / parts;
    pixels = (least + kTogether - 1) / kTogether * kTogether;
    count = (area + pixels - 1) / pixels;
  }
};

// Calls compute(image, first, pixels) for the runs [begin, end) of all images' planes.
template <typename Compute>
void for_each_run(int64_t area, int64_t begin, int64_t end, Compute compute) {
  const Runs runs(area);
  for (int64_t run = begin; run < end; ++run) {
    const int64_t first = run % runs.count * runs.pixels;
    compute(run / runs.count, first, std::min(runs.pixels, area - first));
  }
}

// Calls vector(pixel, count) for the vectors of a run.
template <typename T, typename Function>
HPVOD_INLINE void for_each_pixel(int64_t pixels, Function vector) {
  int64_t p = 0;
  for (; p + kLanes<T> <= pixels; p += kLanes<T>) vector(p, kLanes<T>);
  if (p < pixels) vector(p, pixels - p);
}

// Calls planes(channel, count) for kPlanes of the channels at a time.
template <typename Function>
HPVOD_INLINE void for_each_planes(int64_t channels, Function planes) {
  int64_t c = 0;
  for (; c + kPlanes <= channels; c += kPlanes) planes(c, kPlanes);
  if (c < channels) planes(c, channels - c);
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
