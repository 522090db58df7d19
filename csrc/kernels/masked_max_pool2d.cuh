// Device code of `masked_max_pool2d`.
#pragma once

#include "device.h"
#include "pixel_list.cuh"
#include "vector.h"

namespace hpvod {

struct MaxPoolSize {
  int channels;    // C
  int in_height;   // H
  int in_width;    // W
  int out_height;  // H'
  int out_width;   // W'
  int kernel;
  int stride;
  int padding;
};

// Columns of a window whose loads are in flight together: all of a row of the feature network's
// 3x3. Neighbouring windows overlap, so most loads end in L1.
constexpr int kPoolColumns = 3;

// The larger, as torch has it: a NaN stays, once met.
template <typename Real>
HPVOD_HOST_DEVICE Real larger_or_nan(Real best, Real value) {
  return value > best || value != value ? value : best;
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kPixelThreads, 4)
    max_pool_at_pixels(const T* __restrict__ input,  // [N, H, W, C]
                       PixelList list,               // of [N, H', W']
                       T* __restrict__ output,       // [N, H', W', C]
                       MaxPoolSize size) {
  using Real = accumulate_t<T>;
  const int count = list.size();
  for (int i = blockIdx.x * blockDim.y + threadIdx.y; i < count; i += gridDim.x * blockDim.y) {
    const int pixel = list.pixels[i];
    const int line = pixel / size.out_width;  // n * H' + row
    const int n = line / size.out_height;
    const int left = (pixel - line * size.out_width) * size.stride - size.padding;
    const int top = (line - n * size.out_height) * size.stride - size.padding;
    const int first_x = left > 0 ? left : 0;
    const int first_y = top > 0 ? top : 0;
    const int end_x = left + size.kernel < size.in_width ? left + size.kernel : size.in_width;
    const int end_y = top + size.kernel < size.in_height ? top + size.kernel : size.in_height;

    for (int c = threadIdx.x * kWidth; c < size.channels; c += blockDim.x * kWidth) {
      Real best[kWidth];
#pragma unroll
      for (int k = 0; k < kWidth; ++k) best[k] = detail::float_from_bits(0xff800000u);  // -infinity
      for (int y = first_y; y < end_y; ++y) {
        const int row = (n * size.in_height + y) * size.in_width;
        for (int x = first_x; x < end_x; x += kPoolColumns) {
          Vector<T, kWidth> value[kPoolColumns];
#pragma unroll
          for (int j = 0; j < kPoolColumns; ++j) {
            // Beyond the window, its last column once more: a maximum is the same.
            const int column = x + j < end_x ? x + j : end_x - 1;
            value[j] = load<kWidth>(input + static_cast<int64_t>(row + column) * size.channels + c);
          }
#pragma unroll
          for (int j = 0; j < kPoolColumns; ++j) {
#pragma unroll
            for (int k = 0; k < kWidth; ++k) best[k] = larger_or_nan(best[k], value[j][k]);
          }
        }
      }
      store_once(output + static_cast<int64_t>(pixel) * size.channels + c, narrow_vector<T>(best));
    }
  }
}

}  // namespace hpvod
