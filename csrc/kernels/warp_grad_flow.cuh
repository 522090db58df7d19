// Device code of `warp`, backward: the gradients of the flow and of the scale. Both are
// read off the four corners of an output pixel, the first as a sum over all channels.
#pragma once

#include "warp.cuh"

namespace hpvod {

template <typename T>
struct FlowGradient {
  void* values;  // [N, 2, H, W], or null where not wanted
  bool is_float32;

  HPVOD_HOST_DEVICE void write(int64_t i, accumulate_t<T> value) const {
    if (is_float32) {
      static_cast<float*>(values)[i] = static_cast<float>(value);
    } else {
      static_cast<T*>(values)[i] = narrow<T>(value);
    }
  }
};

// Of one pixel: each corner times the gradient of the output, summed over channels. A
// flow's slope is a difference of corners, weighed alike in all channels, so it is taken
// once, of these sums: less work and fewer roundings a channel (the products of 16-bit
// maps are exact in float). A corner off the map counts as 0.
template <typename Real>
struct CornerSums {
  Real corner[4] = {};

  HPVOD_HOST_DEVICE Real along_x(const BilinearTaps<Real>& taps) const {
    return (1 - taps.fraction_y) * (corner[1] - corner[0]) +
           taps.fraction_y * (corner[3] - corner[2]);
  }

  HPVOD_HOST_DEVICE Real along_y(const BilinearTaps<Real>& taps) const {
    return (1 - taps.fraction_x) * (corner[2] - corner[0]) +
           taps.fraction_x * (corner[3] - corner[1]);
  }
};

// channels_last: threads and tiles as in the forward pass, but a warp (or its part) takes
// all the channels of its pixel, so that shuffles, always in one order, are enough to sum
// them. Rows are strided by whole tiles: a shuffle needs every thread of its warp, those
// beside the map as well.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kWarpThreads, 3)
    warp_grad_flow_channels_last(const T* __restrict__ feature,      // [N or 1, H, W, C]
                                 Flow<T> flow,                       // [N, 2, H, W]
                                 const T* __restrict__ scale,        // [N, H, W, C], or null
                                 const T* __restrict__ grad_output,  // [N, H, W, C]
                                 FlowGradient<T> grad_flow,          // [N, 2, H, W]
                                 T* __restrict__ grad_scale,         // [N, H, W, C], or null
                                 WarpSize size) {
  using Real = accumulate_t<T>;
  const int column = blockIdx.x * blockDim.y + threadIdx.y;
  const int channel_step = blockDim.x * kWidth;
  const int rows = blockDim.z;

  for (int n = blockIdx.z; n < size.batch; n += gridDim.z) {
    for (int tile = blockIdx.y * rows; tile < size.height; tile += gridDim.y * rows) {
      const int row = tile + threadIdx.z;
      const bool on_map = row < size.height && column < size.width;
      const int pixel = on_map ? row * size.width + column : 0;
      Real sum_x = 0;
      Real sum_y = 0;
      if (on_map) {
        const BilinearTaps<Real> taps = read_taps(flow, size, n, row, column);
        const Weights<Real> weight(taps);
        CornerSums<Real> sums;
        const int64_t corner =
            static_cast<int64_t>(size.feature_start(n) + taps.y * size.width + taps.x) *
            size.channels;
        const int64_t next_row = static_cast<int64_t>(size.width) * size.channels;
        const int64_t element =
            static_cast<int64_t>(n * size.height * size.width + pixel) * size.channels;

        for (int c = threadIdx.x * kWidth; c < size.channels; c += channel_step) {
          Vector<T, kWidth> value[4];
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            value[k] = {};
            if (taps.inside >> k & 1) {
              value[k] = load<kWidth>(
                  feature + (corner + (k >> 1) * next_row + ((k & 1) * size.channels + c)));
            }
          }
          const Vector<T, kWidth> grad = load_once<kWidth>(grad_output + element + c);
          Vector<T, kWidth> factor = {};
          if (scale != nullptr) factor = load_once<kWidth>(scale + element + c);

          Real scale_gradient[kWidth];
#pragma unroll
          for (int i = 0; i < kWidth; ++i) {
            const Real scaled = scale != nullptr ? grad[i] * factor[i] : grad[i];
            Real sample = 0;
#pragma unroll
            for (int k = 0; k < 4; ++k) {
              sums.corner[k] += scaled * value[k][i];
              sample += weight[k] * value[k][i];
            }
            scale_gradient[i] = grad[i] * sample;
          }
          if (grad_scale != nullptr) {
            store_once(grad_scale + element + c, narrow_vector<T>(scale_gradient));
          }
        }
        sum_x = sums.along_x(taps);
        sum_y = sums.along_y(taps);
      }
      if (grad_flow.values == nullptr) continue;
      for (int lanes = blockDim.x / 2; lanes > 0; lanes /= 2) {
        sum_x += __shfl_xor_sync(0xffffffffu, sum_x, lanes);
        sum_y += __shfl_xor_sync(0xffffffffu, sum_y, lanes);
      }
      if (on_map && threadIdx.x == 0) {
        const int64_t dx = flow_index(size, n, pixel);
        grad_flow.write(dx, sum_x);
        grad_flow.write(dx + size.height * size.width, sum_y);
      }
    }
  }
}

constexpr int kPlaneLanes = 32;       // neighbouring pixels in a block of the kernel below
constexpr int kPlaneGroups = 12;      // threads that share the channels of a pixel
constexpr int kGradFlowChannels = 2;  // that a thread of it loads together

// Contiguous: the threads of a block's row have neighbouring pixels; its kPlaneGroups
// rows share the channels, and add up in shared memory, always in one order.
template <typename T>
__global__ void __launch_bounds__(kPlaneLanes* kPlaneGroups, 2)
    warp_grad_flow_contiguous(const T* __restrict__ feature,      // [N or 1, C, H, W]
                              Flow<T> flow,                       // [N, 2, H, W]
                              const T* __restrict__ scale,        // [N, C, H, W], or null
                              const T* __restrict__ grad_output,  // [N, C, H, W]
                              FlowGradient<T> grad_flow,          // [N, 2, H, W]
                              T* __restrict__ grad_scale,         // [N, C, H, W], or null
                              WarpSize size) {
  using Real = accumulate_t<T>;
  __shared__ Real partial[2][kPlaneGroups][kPlaneLanes];
  const int plane = size.height * size.width;
  const int pixel = blockIdx.x * kPlaneLanes + threadIdx.x;
  const int group = threadIdx.y;

  for (int n = blockIdx.y; n < size.batch; n += gridDim.y) {
    Real sum_x = 0;
    Real sum_y = 0;
    if (pixel < plane) {
      const BilinearTaps<Real> taps =
          read_taps(flow, size, n, pixel / size.width, pixel % size.width);
      const Weights<Real> weight(taps);
      CornerSums<Real> sums;
      const int corner = taps.y * size.width + taps.x;
      const int64_t first_plane = static_cast<int64_t>(n) * size.channels;
      const int64_t first_feature_plane = size.shared_feature ? 0 : first_plane;
      for (int c = group; c < size.channels; c += kGradFlowChannels * kPlaneGroups) {
        Vector<T, 1> value[kGradFlowChannels][4];
        Vector<T, 1> grad[kGradFlowChannels];
#pragma unroll
        for (int j = 0; j < kGradFlowChannels; ++j) {
          const int channel = c + j * kPlaneGroups;
          const bool wanted = channel < size.channels;
          const T* const map = feature + (first_feature_plane + channel) * plane;
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            value[j][k] = {};
            if (wanted && (taps.inside >> k & 1)) {
              value[j][k] = load<1>(map + (corner + (k >> 1) * size.width + (k & 1)));
            }
          }
          grad[j] = {};
          if (wanted) grad[j] = load_once<1>(grad_output + (first_plane + channel) * plane + pixel);
        }
#pragma unroll
        for (int j = 0; j < kGradFlowChannels; ++j) {
          const int channel = c + j * kPlaneGroups;
          if (channel >= size.channels) break;
          const int64_t element = (first_plane + channel) * plane + pixel;
          Real scaled = grad[j][0];
          if (scale != nullptr) scaled *= load_once<1>(scale + element)[0];
          Real sample = 0;
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            sums.corner[k] += scaled * value[j][k][0];
            sample += weight[k] * value[j][k][0];
          }
          if (grad_scale != nullptr) {
            const Real scale_gradient[1] = {grad[j][0] * sample};
            store_once(grad_scale + element, narrow_vector<T>(scale_gradient));
          }
        }
      }
      sum_x = sums.along_x(taps);
      sum_y = sums.along_y(taps);
    }
    if (grad_flow.values == nullptr) continue;
    partial[0][group][threadIdx.x] = sum_x;
    partial[1][group][threadIdx.x] = sum_y;
    __syncthreads();
    if (group < 2 && pixel < plane) {  // one row of threads sums dx, one dy
      Real sum = 0;
      for (int i = 0; i < kPlaneGroups; ++i) sum += partial[group][i][threadIdx.x];
      grad_flow.write(flow_index(size, n, pixel) + static_cast<int64_t>(group) * plane, sum);
    }
    __syncthreads();  // before the next image overwrites what is being summed
  }
}

}  // namespace hpvod
