// Where a bilinear sample lies and what weighs on it: plain C++17, shared by the CUDA
// and the CPU kernels.
#pragma once

#include "dtype.h"

#ifndef __CUDACC_RTC__
#include <math.h>
#endif

namespace hpvod {

// The largest side of a map: a step of 2^30 is then outside from every pixel, and the
// sum of a pixel and such a step still fits an int.
constexpr int kMaxSide = 1 << 29;

// The four pixels around a sampling position. Corner k is at column x + (k & 1), row
// y + (k >> 1): top left, top right, bottom left, bottom right.
template <typename Real>
struct BilinearTaps {
  int x;            // column of corner 0, at least -1
  int y;            // row of corner 0, at least -1
  Real fraction_x;  // in [0, 1]: how far from column x to x + 1
  Real fraction_y;
  unsigned inside;  // bit k is set where corner k lies on the map
};

namespace detail {

HPVOD_HOST_DEVICE float round_down(float value) { return floorf(value); }
HPVOD_HOST_DEVICE double round_down(double value) { return floor(value); }

// A whole number of pixels as an int. NaN, infinities and all that an int cannot hold
// become a step that is outside: converting them would be undefined.
template <typename Real>
HPVOD_HOST_DEVICE int whole_step(Real step) {
  constexpr Real kFar = 1 << 30;
  return static_cast<int>(step > -kFar ? (step < kFar ? step : kFar) : -kFar);
}

}  // namespace detail

// How far a sample lies from its corner 0, which the flow alone tells: the sum with the
// column would round bits of it away, the more the further right the pixel.
template <typename Real>
HPVOD_HOST_DEVICE Real bilinear_fraction(Real flow) {
  return flow - detail::round_down(flow);
}

// The taps of the sample at (column + flow_x, row + flow_y). Where no corner is on the
// map, all is zero.
template <typename Real>
HPVOD_HOST_DEVICE BilinearTaps<Real> bilinear_taps(int column, int row, Real flow_x, Real flow_y,
                                                   int width, int height) {
  const int x = column + detail::whole_step(detail::round_down(flow_x));
  const int y = row + detail::whole_step(detail::round_down(flow_y));
  // One comparison a side: as unsigned, a negative number is larger than any side.
  const unsigned left = static_cast<unsigned>(x) < static_cast<unsigned>(width);
  const unsigned right = static_cast<unsigned>(x + 1) < static_cast<unsigned>(width);
  const unsigned top = static_cast<unsigned>(y) < static_cast<unsigned>(height);
  const unsigned bottom = static_cast<unsigned>(y + 1) < static_cast<unsigned>(height);
  const unsigned columns = left | right << 1;
  const unsigned inside = (top ? columns : 0u) | (bottom ? columns << 2 : 0u);
  if (inside == 0) return BilinearTaps<Real>{0, 0, 0, 0, 0};
  return BilinearTaps<Real>{x, y, bilinear_fraction(flow_x), bilinear_fraction(flow_y), inside};
}

// The weight of corner `k` at these fractions, wherever it lies.
template <typename Real>
HPVOD_HOST_DEVICE Real bilinear_weight(Real fraction_x, Real fraction_y, int k) {
  return (k & 1 ? fraction_x : 1 - fraction_x) * (k >> 1 ? fraction_y : 1 - fraction_y);
}

}  // namespace hpvod
