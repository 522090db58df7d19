// warp_pixels.
#include "../warp_pixels.h"

#include <algorithm>
#include <memory>

#include "maps.h"
#include "taps.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

// The flow of one image, [2, h, w], between its own pixels.
template <typename T, typename F>
class FinerFlow {
 public:
  using A = accumulate_t<T>;

  FinerFlow(const WarpPixels& params, int64_t image)
      : height_(params.flow_height),
        width_(params.flow_width),
        ratio_(params.ratio),
        flow_(static_cast<const F*>(params.flow) + 2 * image * height_ * width_) {}

  // Component 0, dx, or 1, dy, at pixel (y, x) of the layer, in its pixels.
  HPVOD_INLINE A at(int component, int64_t y, int64_t x) const {
    const F* plane = flow_ + component * height_ * width_;
    const int64_t top = std::min(y / ratio_, height_ - 1), bottom = std::min(top + 1, height_ - 1);
    const int64_t left = std::min(x / ratio_, width_ - 1), right = std::min(left + 1, width_ - 1);
    const A down = static_cast<A>(y % ratio_) / static_cast<A>(ratio_);
    const A across = static_cast<A>(x % ratio_) / static_cast<A>(ratio_);
    const auto value = [&](int64_t row, int64_t column) {
      return static_cast<A>(widen(plane[row * width_ + column]));
    };
    const auto between = [](A low, A high, A fraction) { return low + fraction * (high - low); };
    return static_cast<A>(ratio_) * between(between(value(top, left), value(bottom, left), down),
                                            between(value(top, right), value(bottom, right), down),
                                            across);
  }

 private:
  int64_t height_;
  int64_t width_;
  int64_t ratio_;
  const F* flow_;
};

template <bool kScaled, typename T, typename F>
void warp_listed(const WarpPixels& params, int64_t begin, int64_t end) {
  const Size size{params.channels, params.height, params.width};
  const T* feature = static_cast<const T*>(params.feature);
  const T* scale = static_cast<const T*>(params.scale);
  T* output = static_cast<T*>(params.output);
  const std::unique_ptr<T[]> zeros(new T[size.channels]());
  for (int64_t i = begin; i < end; ++i) {
    const int64_t pixel = params.pixels[i];
    const int64_t n = pixel / size.area(), place = pixel % size.area();
    const int64_t y = place / size.width, x = place % size.width;
    const FinerFlow<T, F> flow(params, n);
    const Taps<T> taps(size, y, x, flow.at(0, y, x), flow.at(1, y, x));
    const TapRows<T> tap(taps, feature + n * size.area() * size.channels, size.channels,
                         zeros.get());
    const int64_t row = pixel * size.channels;
    warp_row<kScaled>(taps, tap, size.channels, scale + (kScaled ? row : 0), output + row);
  }
}

}  // namespace

Range warp_pixels_range(const WarpPixels& params) {
  // Below some 32K values the work is shorter than waking a thread.
  return {*params.count, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, params.channels))};
}

void warp_pixels(const WarpPixels& params, int64_t begin, int64_t end) {
  dispatch_types(params.dtype, params.flow_dtype, [&](auto t, auto f) {
    using T = decltype(t);
    using F = decltype(f);
    params.scale ? warp_listed<true, T, F>(params, begin, end)
                 : warp_listed<false, T, F>(params, begin, end);
  });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
