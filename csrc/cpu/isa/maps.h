// How the loops of csrc/cpu/isa go over maps. A pixel of a channels_last map is one row of C
// adjacent values, and the kernels compute on such rows. A contiguous map is brought to that
// form a block of channels at a time (transpose.h), and results go back in squares.
#pragma once

#include <algorithm>
#include <memory>

#include "../../kernels/warp.h"
#include "../warp.h"
#include "transpose.h"
#include "vector.h"

namespace hpvod {
namespace HPVOD_ISA {

// Vectors a loop over the channels holds in flight: enough independent sums to hide the
// latency of an FMA, few enough to stay in registers.
constexpr int kUnroll = 4;

// Calls group(channel) while kUnroll vectors are left, then single(channel, count), whose
// count is short of a vector only in the last call.
template <typename T, typename Group, typename Single>
HPVOD_INLINE void for_each_vector(int64_t channels, Group group, Single single) {
  int64_t c = 0;
  for (; c + kUnroll * kLanes<T> <= channels; c += kUnroll * kLanes<T>) group(c);
  for (; c + kLanes<T> <= channels; c += kLanes<T>) single(c, kLanes<T>);
  if (c < channels) single(c, channels - c);
}

// A map of one image as the loops below see it.
struct Size {
  int64_t channels;
  int64_t height;
  int64_t width;

  int64_t area() const { return height * width; }
};

inline Size size_of(const WarpShape& shape) { return {shape.channels, shape.height, shape.width}; }

// Calls image(n, begin, end) for the pixels [begin, end) of [N, H, W], image by image.
template <typename Image>
void for_each_image(int64_t area, int64_t begin, int64_t end, Image image) {
  while (begin < end) {
    const int64_t n = begin / area;
    const int64_t stop = std::min(end, (n + 1) * area);
    image(n, begin - n * area, stop - n * area);
    begin = stop;
  }
}

struct Blocks {
  int64_t channels;  // of a block; the last may be smaller
  int64_t count;
};

// The widest block whose transposed copies stay within a core's second-level cache.
inline Blocks channel_blocks(const WarpShape& shape, int64_t images) {
  if (shape.layout == Layout::kChannelsLast) return {shape.channels, 1};
  const int64_t bytes = shape.dtype == DType::kFloat64 ? 8 : shape.dtype == DType::kFloat32 ? 4 : 2;
  int64_t channels = 32;
  while (channels > 16 && 2 * images * shape.height * shape.width * channels * bytes > (3 << 19)) {
    channels /= 2;
  }
  channels = std::min(channels, shape.channels);
  return {channels, (shape.channels + channels - 1) / channels};
}

// A block of the channels of a contiguous map, dense in channels_last while it is worked on.
template <typename T>
class BlockBuffer {
 public:
  BlockBuffer(bool used, const Size& size, int64_t images, int64_t channels)
      : size_(size), values_(used ? new T[images * size.area() * channels] : nullptr) {}

  // Channels [first, first + count) of `images` images of the map [*, C, H, W].
  const T* fill(const T* map, int64_t image, int64_t images, int64_t first, int64_t count) {
    if (!values_) return nullptr;
    for (int64_t i = 0; i < images; ++i) {
      transpose_matrix(map + ((image + i) * size_.channels + first) * size_.area(), count,
                       size_.area(), values_.get() + i * size_.area() * count);
    }
    return values_.get();
  }

  void empty(T* map, int64_t image, int64_t first, int64_t count) const {
    if (!values_) return;
    transpose_matrix(values_.get(), size_.area(), count,
                     map + (image * size_.channels + first) * size_.area());
  }

  T* data() { return values_.get(); }

 private:
  Size size_;
  std::unique_ptr<T[]> values_;
};

// Calls compute(pixel, channel, count) for the vector of `count` channels of one pixel, and
// finish(channel, pixel, count, vector) for the vector of `count` pixels of one channel.
template <typename T, typename Compute, typename Finish>
HPVOD_INLINE void for_each_square(const Size& size, Compute compute, Finish finish) {
  constexpr int kSize = kLanes<T>;
  for (int64_t first = 0; first < size.area(); first += kSize) {
    const int64_t pixels = std::min<int64_t>(kSize, size.area() - first);
    for (int64_t c = 0; c < size.channels; c += kSize) {
      const int64_t channels = std::min<int64_t>(kSize, size.channels - c);
      Vector<T> square[kSize];
#pragma GCC unroll 16
      for (int i = 0; i < kSize; ++i) {  // beyond the last pixel, that one again
        square[i] = compute(first + std::min<int64_t>(i, pixels - 1), c, channels);
      }
      transpose<kSize>(square);
      for (int64_t i = 0; i < channels; ++i) finish(c + i, first, pixels, square[i]);
    }
  }
}

// Calls f(T{}) with the element type.
template <typename Function>
auto dispatch_type(DType dtype, Function f) {
  switch (dtype) {
    case DType::kFloat64:
      return f(double{});
    case DType::kFloat16:
      return f(Half{});
    case DType::kBFloat16:
      return f(BFloat16{});
    default:
      return f(float{});
  }
}

// Calls f(T{}, F{}) with the element types of the maps and of the flow.
template <typename Function>
auto dispatch_types(DType dtype, DType flow_dtype, Function f) {
  return dispatch_type(dtype,
                       [&](auto t) { return flow_dtype == dtype ? f(t, t) : f(t, float{}); });
}

inline Range range_of(const WarpShape& shape, int64_t items_of_images, int64_t images_in_a_block) {
  const int64_t area = shape.height * shape.width;
  if (shape.layout == Layout::kContiguous) {
    return {items_of_images * channel_blocks(shape, images_in_a_block).count, 1};
  }
  // Below some 32K values the work is shorter than waking a thread.
  return {items_of_images * area, std::max<int64_t>(1, 32768 / shape.channels)};
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
