// Device code of `warp_pixels`.
#pragma once

#include "pixel_list.cuh"
#include "warp.cuh"

namespace hpvod {

struct WarpPixelsSize {
  int channels;     // C
  int height;       // H
  int width;        // W
  int flow_height;  // h
  int flow_width;   // w
  int ratio;        // pixels of the layer a pixel of the flow
};

// torch.lerp's formula, whose error is small at either end.
template <typename Real>
HPVOD_HOST_DEVICE Real interpolate(Real start, Real end, Real weight) {
  return weight < Real(0.5) ? start + weight * (end - start)
                            : end - (end - start) * (Real(1) - weight);
}

// Where along one side of the flow a layer's row or column lies: between pixels `low` and
// `high`, which are one where the border clamps.
template <typename Real>
struct FlowPosition {
  int low;
  int high;
  Real fraction;

  HPVOD_HOST_DEVICE FlowPosition(int position, int ratio, int side) {
    low = position / ratio;
    fraction = static_cast<Real>(position - low * ratio) / static_cast<Real>(ratio);
    high = low + 1 < side ? low + 1 : side - 1;
    low = low < side ? low : side - 1;
  }
};

// The flow at a pixel of the layer, in the layer's pixels. `plane` is where the flow's component
// begins.
template <typename T>
HPVOD_HOST_DEVICE accumulate_t<T> layer_flow(const Flow<T>& flow, const WarpPixelsSize& size,
                                             int64_t plane, const FlowPosition<accumulate_t<T>>& y,
                                             const FlowPosition<accumulate_t<T>>& x) {
  using Real = accumulate_t<T>;
  const int64_t low = plane + static_cast<int64_t>(y.low) * size.flow_width;
  const int64_t high = plane + static_cast<int64_t>(y.high) * size.flow_width;
  const Real left = interpolate(flow[low + x.low], flow[high + x.low], y.fraction);
  const Real right = interpolate(flow[low + x.high], flow[high + x.high], y.fraction);
  return static_cast<Real>(size.ratio) * interpolate(left, right, x.fraction);
}

// A thread takes 16 bytes of a pixel's channels, as in warp_forward_channels_last. All threads of
// a pixel work out its taps, from eight values of the flow that they read together.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kPixelThreads, 4)
    warp_at_pixels(const T* __restrict__ feature,  // [N, H, W, C]
                   Flow<T> flow,                   // [N, 2, h, w]
                   const T* __restrict__ scale,    // [N, H, W, C], or null
                   PixelList list,                 // of [N, H, W]
                   T* __restrict__ output,         // [N, H, W, C]
                   WarpPixelsSize size) {
  using Real = accumulate_t<T>;
  const int count = list.size();
  const int64_t next_row = static_cast<int64_t>(size.width) * size.channels;
  for (int i = blockIdx.x * blockDim.y + threadIdx.y; i < count; i += gridDim.x * blockDim.y) {
    const int pixel = list.pixels[i];
    const int line = pixel / size.width;  // n * H + row
    const int n = line / size.height;
    const int row = line - n * size.height;
    const int column = pixel - line * size.width;
    const FlowPosition<Real> y(row, size.ratio, size.flow_height);
    const FlowPosition<Real> x(column, size.ratio, size.flow_width);
    const int64_t plane = static_cast<int64_t>(size.flow_height) * size.flow_width;
    const BilinearTaps<Real> taps =
        bilinear_taps(column, row, layer_flow(flow, size, 2 * n * plane, y, x),
                      layer_flow(flow, size, (2 * n + 1) * plane, y, x), size.width, size.height);
    const Weights<Real> weight(taps);
    const int64_t corner =
        static_cast<int64_t>((n * size.height + taps.y) * size.width + taps.x) * size.channels;
    const int64_t element = static_cast<int64_t>(pixel) * size.channels;

    for (int c = threadIdx.x * kWidth; c < size.channels; c += blockDim.x * kWidth) {
      Vector<T, kWidth> value[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        value[k] = {};
        if (weight[k] != 0) {
          value[k] = load<kWidth>(feature +
                                  (corner + (k >> 1) * next_row + ((k & 1) * size.channels + c)));
        }
      }
      Vector<T, kWidth> factor = {};
      if (scale != nullptr) factor = load_once<kWidth>(scale + element + c);

      Real sum[kWidth];
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        sum[j] = 0;
#pragma unroll
        for (int k = 0; k < 4; ++k) sum[j] += weight[k] * value[k][j];
        if (scale != nullptr) sum[j] *= factor[j];
      }
      store_once(output + element + c, narrow_vector<T>(sum));
    }
  }
}

}  // namespace hpvod
