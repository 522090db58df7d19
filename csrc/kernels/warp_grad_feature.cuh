// Device code of `warp`, backward: the gradient of the feature.
//
// It is a scatter: every output pixel adds to four source
// pixels, in every channel. Here it is turned round, once for all channels, so that no
// channel needs an atomic operation, a float32 copy of the gradient or a map of zeros:
//   1. link   each output pixel enters itself in a list of the corner 0 that it reads,
//   2. order  each list is sorted, so that sums have one order and results one value,
//   3. gather each source pixel walks the lists of the four corners 0 through which it
//             can have been read, and writes its sum.
// A list is a chain of output pixels: heads has its first, next[p] what follows p. One
// entry an output pixel, not four, makes lists short (one entry where the flow is smooth)
// and lets the four be walked side by side.
#pragma once

#include "warp.cuh"

namespace hpvod {

constexpr int kEndOfList = -1;  // all bytes 0xff, as cudaMemsetAsync can set them

// Corner 0 lies in columns -1 to W - 1 and rows -1 to H - 1, hence the heads' shape.
struct WarpLinks {
  int* heads;  // [N, H + 1, W + 1], a pixel of the image's output plane, or kEndOfList
  int* next;   // [N, H, W], the same

  HPVOD_HOST_DEVICE int* head(const WarpSize& size, int n, int row, int column) const {
    return heads + (n * (size.height + 1) + row + 1) * (size.width + 1) + column + 1;
  }
};

template <typename T>
__global__ void __launch_bounds__(kWarpThreads) warp_link(Flow<T> flow,  // [N, 2, H, W]
                                                          WarpLinks links, WarpSize size) {
  const int plane = size.height * size.width;
  const int pixel = blockIdx.x * blockDim.x + threadIdx.x;
  if (pixel >= plane) return;
  for (int n = blockIdx.y; n < size.batch; n += gridDim.y) {
    const auto taps = read_taps(flow, size, n, pixel / size.width, pixel % size.width);
    if (taps.inside == 0) continue;
    links.next[n * plane + pixel] = atomicExch(links.head(size, n, taps.y, taps.x), pixel);
  }
}

// Sorts each list by pixel. A merge sort from short runs to long needs no memory but the
// links and no more than n log n steps, should a flow send all pixels to one.
__global__ void __launch_bounds__(kWarpThreads) warp_order(WarpLinks links, WarpSize size) {
  const int heads = (size.height + 1) * (size.width + 1);
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= heads) return;
  for (int n = blockIdx.y; n < size.batch; n += gridDim.y) {
    int* const next = links.next + n * size.height * size.width;
    int first = links.heads[n * heads + i];
    if (first == kEndOfList || next[first] == kEndOfList) continue;

    int merges = 0;
    for (int run = 1; merges != 1; run *= 2) {
      merges = 0;
      int left = first;
      int last = kEndOfList;
      while (left != kEndOfList) {
        int right = left;
        int left_count = 0;
        while (left_count < run && right != kEndOfList) {
          right = next[right];
          ++left_count;
        }
        int right_count = run;
        while (left_count > 0 || (right_count > 0 && right != kEndOfList)) {
          const bool right_is_over = right_count == 0 || right == kEndOfList;
          const bool take_left = right_is_over || (left_count > 0 && left < right);
          const int taken = take_left ? left : right;
          (take_left ? left : right) = next[taken];
          --(take_left ? left_count : right_count);
          if (last == kEndOfList) {
            first = taken;
          } else {
            next[last] = taken;
          }
          last = taken;
        }
        left = right;
        ++merges;
      }
      next[last] = kEndOfList;
    }
    links.heads[n * heads + i] = first;
  }
}

// The output pixels that read one source pixel of image n, at most one through each
// corner at a time. The order in which they come is fixed by the lists' order.
struct WarpReaders {
  int pixel[4];  // that reads the source pixel as its corner k, or kEndOfList

  HPVOD_HOST_DEVICE WarpReaders(const WarpLinks& links, const WarpSize& size, int n, int row,
                                int column) {
#pragma unroll
    for (int k = 0; k < 4; ++k) pixel[k] = *links.head(size, n, row - (k >> 1), column - (k & 1));
  }

  HPVOD_HOST_DEVICE bool any() const {
    // Only the end of a list has a sign bit.
    return (pixel[0] & pixel[1] & pixel[2] & pixel[3]) >= 0;
  }

  // The weight with which reader k reads; 0 without one.
  template <typename T>
  HPVOD_HOST_DEVICE accumulate_t<T> weight(const Flow<T>& flow, const WarpSize& size, int n,
                                           int k) const {
    if (pixel[k] == kEndOfList) return 0;
    const int64_t dx = flow_index(size, n, pixel[k]);
    return bilinear_weight(bilinear_fraction(flow[dx]),
                           bilinear_fraction(flow[dx + size.height * size.width]), k);
  }

  HPVOD_HOST_DEVICE void advance(const WarpLinks& links, const WarpSize& size, int n) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (pixel[k] != kEndOfList) pixel[k] = links.next[n * size.height * size.width + pixel[k]];
    }
  }
};

// channels_last: threads and grid as in the forward pass, for source pixels.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kWarpThreads, 3)
    warp_gather_channels_last(const T* __restrict__ grad_output,  // [N, H, W, C]
                              Flow<T> flow,                       // [N, 2, H, W]
                              const T* __restrict__ scale,        // [N, H, W, C], or null
                              T* __restrict__ grad_feature,       // [N or 1, H, W, C]
                              WarpLinks links, WarpSize size, int feature_batch, int splits) {
  using Real = accumulate_t<T>;
  const int column = blockIdx.x / splits * blockDim.y + threadIdx.y;
  const int first_channel = (blockIdx.x % splits * blockDim.x + threadIdx.x) * kWidth;
  const int channel_step = splits * blockDim.x * kWidth;
  const int plane = size.height * size.width;
  if (column >= size.width) return;

  for (int source = blockIdx.z; source < feature_batch; source += gridDim.z) {
    const int first_n = size.shared_feature ? 0 : source;
    const int last_n = size.shared_feature ? size.batch : source + 1;
    for (int row = blockIdx.y * blockDim.z + threadIdx.z; row < size.height;
         row += gridDim.y * blockDim.z) {
      for (int c = first_channel; c < size.channels; c += channel_step) {
        Real sum[kWidth] = {};
        for (int n = first_n; n < last_n; ++n) {
          Real image_sum[kWidth] = {};  // images are summed apart: that rounds less
          for (WarpReaders readers(links, size, n, row, column); readers.any();
               readers.advance(links, size, n)) {
            Vector<T, kWidth> value[4];
            Vector<T, kWidth> factor[4];
            Real weight[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) {
              value[k] = {};
              factor[k] = {};
              if (readers.pixel[k] == kEndOfList) continue;
              const int64_t element =
                  static_cast<int64_t>(n * plane + readers.pixel[k]) * size.channels + c;
              value[k] = load<kWidth>(grad_output + element);
              if (scale != nullptr) factor[k] = load<kWidth>(scale + element);
            }
#pragma unroll
            for (int k = 0; k < 4; ++k) {
              weight[k] = readers.weight(flow, size, n, k);
              // Cleared after the loads, so that they need not wait for the flow.
              if (weight[k] == 0) value[k] = factor[k] = {};
            }
#pragma unroll
            for (int i = 0; i < kWidth; ++i) {
#pragma unroll
              for (int k = 0; k < 4; ++k) {
                const Real scaled = scale != nullptr ? value[k][i] * factor[k][i] : value[k][i];
                image_sum[i] += weight[k] * scaled;
              }
            }
          }
#pragma unroll
          for (int i = 0; i < kWidth; ++i) sum[i] += image_sum[i];
        }
        const int64_t pixel =
            static_cast<int64_t>((source * size.height + row) * size.width + column) *
            size.channels;
        store_once(grad_feature + pixel + c, narrow_vector<T>(sum));
      }
    }
  }
}

constexpr int kGatherChannels = 8;  // that a thread of the kernel below sums together

// Contiguous: a thread walks the lists of one source pixel for a run of channels, whose
// sums it keeps in registers.
template <typename T>
__global__ void __launch_bounds__(kWarpThreads, 2)
    warp_gather_contiguous(const T* __restrict__ grad_output,  // [N, C, H, W]
                           Flow<T> flow,                       // [N, 2, H, W]
                           const T* __restrict__ scale,        // [N, C, H, W], or null
                           T* __restrict__ grad_feature,       // [N or 1, C, H, W]
                           WarpLinks links, WarpSize size, int feature_batch) {
  using Real = accumulate_t<T>;
  const int plane = size.height * size.width;
  const int pixel = blockIdx.x * blockDim.x + threadIdx.x;
  if (pixel >= plane) return;
  const int row = pixel / size.width;
  const int column = pixel % size.width;

  for (int source = blockIdx.z; source < feature_batch; source += gridDim.z) {
    const int first_n = size.shared_feature ? 0 : source;
    const int last_n = size.shared_feature ? size.batch : source + 1;
    for (int c = blockIdx.y * kGatherChannels; c < size.channels;
         c += gridDim.y * kGatherChannels) {
      Real sum[kGatherChannels] = {};
      for (int n = first_n; n < last_n; ++n) {
        const int64_t map = (static_cast<int64_t>(n) * size.channels + c) * plane;
        Real image_sum[kGatherChannels] = {};
        for (WarpReaders readers(links, size, n, row, column); readers.any();
             readers.advance(links, size, n)) {
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            const Real weight = readers.weight(flow, size, n, k);
            if (weight == 0) continue;
            Vector<T, 1> value[kGatherChannels];
            Vector<T, 1> factor[kGatherChannels];
#pragma unroll
            for (int j = 0; j < kGatherChannels; ++j) {
              value[j] = {};
              factor[j] = {};
              if (c + j < size.channels) {
                const int64_t element = map + static_cast<int64_t>(j) * plane + readers.pixel[k];
                value[j] = load<1>(grad_output + element);
                if (scale != nullptr) factor[j] = load<1>(scale + element);
              }
            }
#pragma unroll
            for (int j = 0; j < kGatherChannels; ++j) {
              const Real scaled = scale != nullptr ? value[j][0] * factor[j][0] : value[j][0];
              image_sum[j] += weight * scaled;
            }
          }
        }
#pragma unroll
        for (int j = 0; j < kGatherChannels; ++j) sum[j] += image_sum[j];
      }
#pragma unroll
      for (int j = 0; j < kGatherChannels; ++j) {
        if (c + j >= size.channels) break;
        const int64_t element =
            (static_cast<int64_t>(source) * size.channels + c + j) * plane + pixel;
        const Real value[1] = {sum[j]};
        store_once(grad_feature + element, narrow_vector<T>(value));
      }
    }
  }
}

}  // namespace hpvod
