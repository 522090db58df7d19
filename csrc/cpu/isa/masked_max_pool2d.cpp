// masked_max_pool2d.
#include "../masked_max_pool2d.h"

#include <algorithm>

#include "maps.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

// The larger lane; NaN where either is, as torch's pooling has it.
template <typename T>
HPVOD_INLINE Vector<T> larger(Vector<T> best, Vector<T> value) {
  return (value > best) | (value != value) ? value : best;
}

template <typename T>
void pool(const MaskedMaxPool2d& params, int64_t begin, int64_t end) {
  const T* input = static_cast<const T*>(params.input);
  T* output = static_cast<T*>(params.output);
  const int64_t channels = params.channels;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t pixel = params.pixels[i];
    const int64_t row = pixel / params.out_width;
    const int64_t n = row / params.out_height;
    const int64_t top = row % params.out_height * params.stride - params.padding;
    const int64_t left = pixel % params.out_width * params.stride - params.padding;
    const int64_t y_begin = std::max<int64_t>(top, 0), x_begin = std::max<int64_t>(left, 0);
    const int64_t y_end = std::min(top + params.kernel, params.in_height);
    const int64_t x_end = std::min(left + params.kernel, params.in_width);
    const T* image = input + n * params.in_height * params.in_width * channels;
    for (int64_t c = 0; c < channels; c += kLanes<T>) {
      const int64_t count = std::min<int64_t>(kLanes<T>, channels - c);
      const auto at = [&](int64_t y, int64_t x) {
        return load(image + (y * params.in_width + x) * channels + c, count);
      };
      Vector<T> best = at(y_begin, x_begin);
      for (int64_t y = y_begin; y < y_end; ++y) {
        for (int64_t x = x_begin; x < x_end; ++x) best = larger<T>(best, at(y, x));
      }
      store(output + pixel * channels + c, best, count);
    }
  }
}

}  // namespace

Range masked_max_pool2d_range(const MaskedMaxPool2d& params) {
  const int64_t work = params.channels * params.kernel * params.kernel;
  return {*params.count, std::max<int64_t>(1, 65536 / std::max<int64_t>(1, work))};
}

void masked_max_pool2d(const MaskedMaxPool2d& params, int64_t begin, int64_t end) {
  dispatch_type(params.dtype, [&](auto t) { pool<decltype(t)>(params, begin, end); });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
