// Which feature pixels the bins of a RoI touch: plain C++17, shared by the CUDA and the CPU
// kernels.
#pragma once

#include "dtype.h"

#ifndef __CUDACC_RTC__
#include <math.h>
#endif

namespace hpvod {

// Limits within which the products below fit 64 bits.
constexpr int64_t kMaxGroups = 1 << 10;
constexpr int64_t kMaxStride = 1 << 20;

// A RoI is (image index, x1, y1, x2, y2). One with a NaN, or of an image that there is not, has no
// pixels. The index is cut off to a whole number, as torch does.
HPVOD_HOST_DEVICE bool has_pixels(const float* roi, int64_t batch) {
  for (int k = 1; k < 5; ++k) {
    if (roi[k] != roi[k]) return false;
  }
  return roi[0] > -1 && roi[0] < static_cast<float>(batch);
}

// One side of a RoI, cut into bins. The edges are fractions, so they are held in a unit of which
// all are multiples, a (10 * groups)th of an image pixel: no rounding decides whether a bin that
// ends at a pixel's border touches the next, and all backends agree.
struct BinEdges {
  int64_t start;  // of the RoI
  int64_t bin;    // length of one
  int64_t pixel;  // length of a feature pixel

  HPVOD_HOST_DEVICE BinEdges(float low, float high, int groups, int stride) {
    const int64_t first = whole(low);
    const int64_t length = 10 * (whole(high) + 1 - first);
    start = 10 * groups * first;
    bin = length > stride ? length : stride;  // a RoI's side is at least 0.1 feature pixels
    pixel = int64_t{10} * groups * stride;
  }

  // The bin touches the feature pixels [first, end) of a side of `side` pixels.
  HPVOD_HOST_DEVICE int first(int index, int side) const { return at(start + index * bin, side); }
  HPVOD_HOST_DEVICE int end(int index, int side) const {
    return at(start + (index + 1) * bin + pixel - 1, side);
  }

 private:
  HPVOD_HOST_DEVICE int at(int64_t position, int side) const {
    if (position < 0) return 0;
    const int64_t index = position / pixel;
    return index < side ? static_cast<int>(index) : side;
  }

  // Corners are rounded to whole image pixels, halves up. Farther than 2^24, up to which a float
  // holds every whole number, nothing is: it would only overflow.
  static HPVOD_HOST_DEVICE int64_t whole(float corner) {
    constexpr float kFar = 1 << 24;
    const float rounded = floorf(corner + 0.5f);
    return static_cast<int64_t>(rounded > -kFar ? (rounded < kFar ? rounded : kFar) : -kFar);
  }
};

}  // namespace hpvod
