// warp, forward.
#include "../warp.h"

#include <algorithm>
#include <memory>

#include "maps.h"
#include "taps.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

// Pixels [begin, end) of one image in channels_last, [H, W, C].
template <bool kScaled, typename T>
void forward_image(const Size& size, const Taps<T>* found, const T* feature, const T* scale,
                   T* output, int64_t begin, int64_t end) {
  const std::unique_ptr<T[]> zeros(new T[size.channels]());
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const Taps<T>& taps = found[pixel - begin];
    const TapRows<T> tap(taps, feature, size.channels, zeros.get());
    const int64_t row = pixel * size.channels;
    warp_row<kScaled>(taps, tap, size.channels, scale + (kScaled ? row : 0), output + row);
  }
}

// One image of a contiguous map: `feature` is the block of channels dense in channels_last, scale
// and output are its planes.
template <bool kScaled, typename T>
void forward_planes(const Size& size, const Taps<T>* found, const T* feature, const T* scale,
                    T* output) {
  const std::unique_ptr<T[]> zeros(new T[size.channels]());
  for_each_square<T>(
      size,
      [&](int64_t pixel, int64_t c, int64_t count) {
        const Taps<T>& taps = found[pixel];
        const TapRows<T> tap(taps, feature, size.channels, zeros.get());
        Vector<T> value = taps.weight[0] * load(tap.row[0] + c, count);
        for (int k = 1; k < 4; ++k) value += taps.weight[k] * load(tap.row[k] + c, count);
        return value;
      },
      [&](int64_t channel, int64_t pixel, int64_t count, Vector<T> value) {
        const int64_t element = channel * size.area() + pixel;
        if (kScaled) value *= load(scale + element, count);
        store(output + element, value, count);
      });
}

template <bool kScaled, typename T, typename F>
void forward(const WarpForward& params, int64_t begin, int64_t end) {
  const WarpShape& shape = params.shape;
  const Size size = size_of(shape);
  const F* flow = static_cast<const F*>(params.flow);
  const T* feature = static_cast<const T*>(params.feature);
  const T* scale = static_cast<const T*>(params.scale);
  T* output = static_cast<T*>(params.output);
  if (shape.layout == Layout::kChannelsLast) {
    for_each_image(size.area(), begin, end, [&](int64_t n, int64_t from, int64_t to) {
      const int64_t map = n * size.channels * size.area();
      const auto taps = find_taps<T>(size, flow + 2 * n * size.area(), from, to);
      forward_image<kScaled>(size, taps.get(), feature + (shape.feature_batch == 1 ? 0 : map),
                             kScaled ? scale + map : nullptr, output + map, from, to);
    });
    return;
  }
  const Blocks blocks = channel_blocks(shape, 1);
  BlockBuffer<T> feature_block(true, size, 1, blocks.channels);
  std::unique_ptr<Taps<T>[]> taps;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / blocks.count, first = item % blocks.count * blocks.channels;
    const int64_t count = std::min(blocks.channels, size.channels - first);
    if (first == 0 || item == begin) {
      taps = find_taps<T>(size, flow + 2 * n * size.area(), 0, size.area());
    }
    const int64_t planes = (n * size.channels + first) * size.area();
    forward_planes<kScaled>(
        Size{count, size.height, size.width}, taps.get(),
        feature_block.fill(feature, shape.feature_batch == 1 ? 0 : n, 1, first, count),
        scale + (kScaled ? planes : 0), output + planes);
  }
}

}  // namespace

Range warp_forward_range(const WarpShape& shape) { return range_of(shape, shape.batch, 1); }

void warp_forward(const WarpForward& params, int64_t begin, int64_t end) {
  dispatch_types(params.shape.dtype, params.shape.flow_dtype, [&](auto t, auto f) {
    using T = decltype(t);
    using F = decltype(f);
    params.scale ? forward<true, T, F>(params, begin, end)
                 : forward<false, T, F>(params, begin, end);
  });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
