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

// A sample of one channel and its slopes along x and y. A corner off the map counts as 0.
// Slopes are differences of corners, taken channel by channel: the sums over channels then
// do not cancel where a map is smooth.
template <typename Real>
struct Sample {
  Real value;
  Real slope_x;
  Real slope_y;

  HPVOD_HOST_DEVICE Sample(const BilinearTaps<Real>& taps, Real top_left, Real top_right,
                           Real bottom_left, Real bottom_right) {
    const Real right = taps.fraction_x, left = 1 - right;
    const Real bottom = taps.fraction_y, top = 1 - bottom;
    value = top * (left * top_left + right * top_right) +
            bottom * (left * bottom_left + right * bottom_right);
    slope_x = top * (top_right - top_left) + bottom * (bottom_right - bottom_left);
    slope_y = left * (bottom_left - top_left) + right * (bottom_right - top_right);
  }
};

// channels_last: threads and tiles as in the forward pass, but a warp (or its part) takes
// all the channels of its pixel, so that shuffles, always in one order, are enough to sum
// them. Rows are strided by whole tiles: a shuffle needs every thread of its warp, those
// beside the map as well.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kWarpThreads, sizeof(T) == 8 ? 3 : 4)
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
            const Sample<Real> sample(taps, value[0][i], value[1][i], value[2][i], value[3][i]);
            const Real scaled = scale != nullptr ? grad[i] * factor[i] : grad[i];
            sum_x += scaled * sample.slope_x;
            sum_y += scaled * sample.slope_y;
            scale_gradient[i] = grad[i] * sample.value;
          }
          if (grad_scale != nullptr) {
            store_once(grad_scale + element + c, narrow_vector<T>(scale_gradient));
          }
        }
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
          const Sample<Real> sample(taps, value[j][0][0], value[j][1][0], value[j][2][0],
                                    value[j][3][0]);
          const int64_t element = (first_plane + channel) * plane + pixel;
          Real scaled = grad[j][0];
          if (scale != nullptr) scaled *= load_once<1>(scale + element)[0];
          sum_x += scaled * sample.slope_x;
          sum_y += scaled * sample.slope_y;
          if (grad_scale != nullptr) {
            const Real scale_gradient[1] = {grad[j][0] * sample.value};
            store_once(grad_scale + element, narrow_vector<T>(scale_gradient));
          }
        }
      }
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
