// Where the pixels of a warp read, found once for all their channels.
#pragma once

#include <memory>

#include "../../kernels/bilinear.h"
#include "maps.h"

namespace hpvod {
namespace HPVOD_ISA {

// The four taps of a pixel.
template <typename T>
struct Taps {
  using A = accumulate_t<T>;

  Taps() = default;

  // flow is that of the pixel's image, [2, H, W].
  template <typename F>
  HPVOD_INLINE Taps(const Size& size, const F* flow, int64_t y, int64_t x)
      : Taps(size, y, x, static_cast<A>(widen(flow[y * size.width + x])),
             static_cast<A>(widen(flow[size.area() + y * size.width + x]))) {}

  HPVOD_INLINE Taps(const Size& size, int64_t y, int64_t x, A flow_x, A flow_y) {
    const auto taps = bilinear_taps<A>(static_cast<int>(x), static_cast<int>(y), flow_x, flow_y,
                                       static_cast<int>(size.width), static_cast<int>(size.height));
    first_ = static_cast<int64_t>(taps.y) * size.width + taps.x;
    width_ = size.width;
    inside_ = taps.inside;
    fraction_x_ = taps.fraction_x;
    fraction_y_ = taps.fraction_y;
    for (int k = 0; k < 4; ++k) weight[k] = bilinear_weight(fraction_x_, fraction_y_, k);
  }

  bool inside(int k) const { return inside_ >> k & 1; }

  // The pixel of the map that corner k reads.
  int64_t pixel(int k) const { return first_ + (k & 1) + (k >> 1) * width_; }

  // d output / d flow, from the sums of gradient * value at each corner.
  A gradient_x(const A (&dot)[4]) const {
    return (1 - fraction_y_) * (dot[1] - dot[0]) + fraction_y_ * (dot[3] - dot[2]);
  }
  A gradient_y(const A (&dot)[4]) const {
    return (1 - fraction_x_) * (dot[2] - dot[0]) + fraction_x_ * (dot[3] - dot[1]);
  }

  A weight[4];

 private:
  int64_t first_;
  int64_t width_;
  unsigned inside_;
  A fraction_x_;
  A fraction_y_;
};

// The taps of the pixels [begin, end) of an image. Found once, they serve every block of
// channels: finding them takes longer than warping a few channels does.
template <typename T, typename F>
std::unique_ptr<Taps<T>[]> find_taps(const Size& size, const F* flow, int64_t begin, int64_t end) {
  std::unique_ptr<Taps<T>[]> taps(new Taps<T>[end - begin]);
  int64_t y = begin / size.width, x = begin % size.width;
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    taps[pixel - begin] = Taps<T>(size, flow, y, x);
    if (++x == size.width) x = 0, ++y;
  }
  return taps;
}

// The rows that the taps read. A tap outside the map reads zeros, for weight 0 times some
// row of the map would be NaN where that row is not finite.
template <typename T>
struct TapRows {
  const T* row[4];

  HPVOD_INLINE TapRows(const Taps<T>& taps, const T* map, int64_t channels, const T* zeros) {
    for (int k = 0; k < 4; ++k) row[k] = taps.inside(k) ? map + taps.pixel(k) * channels : zeros;
  }
};

// One pixel's channels: output = scale * the weighted sum of the taps' rows.
template <bool kScaled, typename T>
HPVOD_INLINE void warp_row(const Taps<T>& taps, const TapRows<T>& tap, int64_t channels,
                           const T* scale, T* output) {
  const auto single = [&](int64_t c, int64_t count) {
    Vector<T> value = taps.weight[0] * load(tap.row[0] + c, count);
    for (int k = 1; k < 4; ++k) {
      value = multiply_add(Vector<T>{} + taps.weight[k], load(tap.row[k] + c, count), value);
    }
    if (kScaled) value *= load(scale + c, count);
    store(output + c, value, count);
  };
  const auto group = [&](int64_t c) {
    for (int u = 0; u < kUnroll; ++u) single(c + u * kLanes<T>, kLanes<T>);
  };
  for_each_vector<T>(channels, group, single);
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
