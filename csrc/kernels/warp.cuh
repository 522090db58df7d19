// Device code of `warp`, forward, and what the backward pass (warp_grad_feature.cuh,
// warp_grad_flow.cuh) shares with it.
//
// Indices. A position (a pixel of one of the batch's maps) fits an int: warp.cu sees to
// that. Only the step from a position to an element is 64 bits wide, one multiply-add a
// pixel: maps of over 2^31 elements take the same, tested path as small ones.
#pragma once

#include "bilinear.h"
#include "device.h"
#include "vector.h"

namespace hpvod {

constexpr int kWarpThreads = 256;  // in a block, unless said otherwise

// Blocks of the channels_last forward kernel that a multiprocessor is to hold; sm_75 has
// no room for more than 1024 threads.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 750
constexpr int kWarpForwardBlocks = 4;
#else
constexpr int kWarpForwardBlocks = 5;
#endif

struct WarpSize {
  int batch;            // N
  int channels;         // C
  int height;           // H
  int width;            // W
  bool shared_feature;  // one feature serves the whole batch

  // The position at which the feature of image n begins.
  HPVOD_HOST_DEVICE int feature_start(int n) const {
    return shared_feature ? 0 : n * height * width;
  }
};

// A flow, or its gradient, is in the maps' type or in float. Two values serve all the
// channels of a pixel, so asking for the type at run time costs nothing and halves the
// kernels to compile.
template <typename T>
struct Flow {
  const void* values;  // [N, 2, H, W], (dx, dy)
  bool is_float32;

  HPVOD_HOST_DEVICE accumulate_t<T> operator[](int64_t i) const {
    if (is_float32) return static_cast<const float*>(values)[i];
    return widen(static_cast<const T*>(values)[i]);
  }
};

// Index of dx at a pixel of image n; that of dy is H * W further.
HPVOD_HOST_DEVICE int64_t flow_index(const WarpSize& size, int n, int pixel) {
  return static_cast<int64_t>(2 * n) * size.height * size.width + pixel;
}

template <typename T>
HPVOD_HOST_DEVICE BilinearTaps<accumulate_t<T>> read_taps(const Flow<T>& flow, const WarpSize& size,
                                                          int n, int row, int column) {
  const int64_t dx = flow_index(size, n, row * size.width + column);
  const int64_t dy = dx + size.height * size.width;
  return bilinear_taps(column, row, flow[dx], flow[dy], size.width, size.height);
}

// The weights of the four corners. A corner of weight 0 is never read: it need not be on
// the map, and an infinity or a NaN that stands there is none of the sample's.
template <typename Real>
struct Weights {
  Real corner[4];

  explicit HPVOD_HOST_DEVICE Weights(const BilinearTaps<Real>& taps) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const bool inside = taps.inside >> k & 1;
      corner[k] = inside ? bilinear_weight(taps.fraction_x, taps.fraction_y, k) : Real(0);
    }
  }

  HPVOD_HOST_DEVICE Real operator[](int k) const { return corner[k]; }
};

// channels_last. threadIdx.x runs along the channels of one pixel (a whole warp, or the
// part of one that C can fill), so that a warp reads whole 128-byte lines, and all its
// threads share one pixel's taps. threadIdx.y and .z place the block's pixels in a
// near-square tile: a pixel reads four, but neighbours read nearly the same four, and
// all but the rim of a tile then comes from L1. Where pixels are few, `splits` blocks
// share the channels of a tile. The grid's x covers the columns; rows and images, whose
// grid dimensions end at 65535, are strided.
//
// A thread has four 16-byte loads in flight (five with a scale) before it uses the first,
// and five blocks of 48 registers a thread share a multiprocessor: 80 KiB asked for at a
// time, some 40 of them new to L1. By reckoning, that is twice what hides the latency of
// HBM3 at its full bandwidth. Two vectors a thread would need 80 registers, and the
// threads lost would take back what they gain.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kWarpThreads, kWarpForwardBlocks)
    warp_forward_channels_last(const T* __restrict__ feature,  // [N or 1, H, W, C]
                               Flow<T> flow,                   // [N, 2, H, W]
                               const T* __restrict__ scale,    // [N, H, W, C], or null
                               T* __restrict__ output,         // [N, H, W, C]
                               WarpSize size, int splits) {
  using Real = accumulate_t<T>;
  const int column = blockIdx.x / splits * blockDim.y + threadIdx.y;
  const int first_channel = (blockIdx.x % splits * blockDim.x + threadIdx.x) * kWidth;
  const int channel_step = splits * blockDim.x * kWidth;
  if (column >= size.width) return;

  for (int n = blockIdx.z; n < size.batch; n += gridDim.z) {
    for (int row = blockIdx.y * blockDim.z + threadIdx.z; row < size.height;
         row += gridDim.y * blockDim.z) {
      const BilinearTaps<Real> taps = read_taps(flow, size, n, row, column);
      const Weights<Real> weight(taps);
      const int64_t corner =
          static_cast<int64_t>(size.feature_start(n) + taps.y * size.width + taps.x) *
          size.channels;
      const int64_t next_row = static_cast<int64_t>(size.width) * size.channels;
      const int64_t pixel =
          static_cast<int64_t>((n * size.height + row) * size.width + column) * size.channels;

      for (int c = first_channel; c < size.channels; c += channel_step) {
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
        if (scale != nullptr) factor = load_once<kWidth>(scale + pixel + c);

        Real sum[kWidth];
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          sum[i] = 0;
#pragma unroll
          for (int k = 0; k < 4; ++k) sum[i] += weight[k] * value[k][i];
          if (scale != nullptr) sum[i] *= factor[i];
        }
        store_once(output + pixel + c, narrow_vector<T>(sum));
      }
    }
  }
}

constexpr int kForwardChannels = 4;  // that a thread of the kernel below loads together

// Contiguous. A thread holds one pixel's taps and takes them through many channels;
// neighbouring threads have neighbouring pixels of the flattened plane, so that rows
// which are no multiple of a warp leave no thread idle. gridDim.y blocks share the
// channels. Loads are small here, so a thread issues more of them, up to sixteen, before it
// uses any.
template <typename T>
__global__ void __launch_bounds__(kWarpThreads, 4)
    warp_forward_contiguous(const T* __restrict__ feature,  // [N or 1, C, H, W]
                            Flow<T> flow,                   // [N, 2, H, W]
                            const T* __restrict__ scale,    // [N, C, H, W], or null
                            T* __restrict__ output,         // [N, C, H, W]
                            WarpSize size) {
  using Real = accumulate_t<T>;
  const int plane = size.height * size.width;
  const int pixel = blockIdx.x * blockDim.x + threadIdx.x;
  if (pixel >= plane) return;

  for (int n = blockIdx.z; n < size.batch; n += gridDim.z) {
    const BilinearTaps<Real> taps =
        read_taps(flow, size, n, pixel / size.width, pixel % size.width);
    const Weights<Real> weight(taps);
    const int corner = taps.y * size.width + taps.x;
    const int64_t feature_plane = size.shared_feature ? 0 : static_cast<int64_t>(n) * size.channels;
    const int64_t output_plane = static_cast<int64_t>(n) * size.channels;

    for (int c = blockIdx.y * kForwardChannels; c < size.channels;
         c += gridDim.y * kForwardChannels) {
      Vector<T, 1> value[kForwardChannels][4];
#pragma unroll
      for (int j = 0; j < kForwardChannels; ++j) {
        const T* const map = feature + (feature_plane + c + j) * plane;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          value[j][k] = {};
          if (c + j < size.channels && weight[k] != 0) {
            value[j][k] = load<1>(map + (corner + (k >> 1) * size.width + (k & 1)));
          }
        }
      }
#pragma unroll
      for (int j = 0; j < kForwardChannels; ++j) {
        if (c + j >= size.channels) break;
        Real sum[1] = {0};
#pragma unroll
        for (int k = 0; k < 4; ++k) sum[0] += weight[k] * value[j][k][0];
        const int64_t element = (output_plane + c + j) * plane + pixel;
        if (scale != nullptr) sum[0] *= load_once<1>(scale + element)[0];
        store_once(output + element, narrow_vector<T>(sum));
      }
    }
  }
}

}  // namespace hpvod
