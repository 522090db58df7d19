// Device code of `batched_nms`.
#pragma once

#include "device.h"
#include "dtype.h"

namespace hpvod {

constexpr int kNmsThreads = 512;
constexpr int kNmsWarps = kNmsThreads / 32;
// Of the kept boxes, those that a block has in shared memory; the others it reads anew.
constexpr int kNmsShared = 512;

// Rounded by itself. A product that is fused with the sum behind it decides some pairs of boxes
// in another way than the other backends do, and a compiler fuses where it likes.
HPVOD_HOST_DEVICE float rounded_product(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  volatile float product = a * b;
  return product;
#endif
}

struct NmsBox {
  float left;
  float top;
  float right;  // one behind the last pixel
  float bottom;
  float area;
  int64_t label;
};

HPVOD_HOST_DEVICE bool suppresses(const NmsBox& a, const NmsBox& b, float threshold) {
  float width = (a.right < b.right ? a.right : b.right) - (a.left > b.left ? a.left : b.left);
  float height = (a.bottom < b.bottom ? a.bottom : b.bottom) - (a.top > b.top ? a.top : b.top);
  width = width > 0 ? width : 0;
  height = height > 0 ? height : 0;
  const float intersection = rounded_product(width, height);
  const float rest = a.area + b.area - intersection;
  return a.label == b.label && intersection > rounded_product(threshold, rest);
}

// What one image brings.
struct NmsImage {
  const float* boxes;     // [K, 4]
  const int64_t* labels;  // [K]
  const int64_t* order;   // [K]
  const bool* valid;      // [K], or null
  int candidates;         // K

  // The candidate that comes at this place; -1 where none does.
  HPVOD_HOST_DEVICE int at(int place) const {
    if (place >= candidates) return -1;
    const int64_t index = order[place];
    if (index < 0 || index >= candidates) return -1;
    return valid == nullptr || valid[index] ? static_cast<int>(index) : -1;
  }

  HPVOD_HOST_DEVICE NmsBox box(int64_t index) const {
    const float* corners = boxes + 4 * index;
    const float left = corners[0], top = corners[1];
    const float right = corners[2] + 1, bottom = corners[3] + 1;
    const float area = rounded_product(right - left, bottom - top);
    return {left, top, right, bottom, area, labels[index]};
  }
};

// How many candidates there are, for every thread.
__device__ __forceinline__ int count_valid(const NmsImage& image, int (&partial)[kNmsWarps]) {
  if (image.valid == nullptr) return image.candidates;
  int number = 0;
  for (int k = threadIdx.x; k < image.candidates; k += kNmsThreads) number += image.valid[k];
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    number += __shfl_xor_sync(0xffffffffu, number, lanes);
  }
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = number;
  __syncthreads();
  int sum = 0;
#pragma unroll
  for (int i = 0; i < kNmsWarps; ++i) sum += partial[i];
  return sum;
}

// The first thread with `alive`, for every thread, and kNmsThreads where there is none. A barrier.
__device__ __forceinline__ int first_alive(bool alive, uint32_t (&words)[kNmsWarps]) {
  const uint32_t word = __ballot_sync(0xffffffffu, alive);
  if (threadIdx.x % 32 == 0) words[threadIdx.x / 32] = word;
  __syncthreads();
  int first = kNmsThreads;
#pragma unroll
  for (int i = kNmsWarps - 1; i >= 0; --i) {
    const uint32_t bits = words[i];
    if (bits != 0) first = 32 * i + __ffs(static_cast<int>(bits)) - 1;
  }
  return first;
}

// A block an image. It goes over the candidates, best first, in tiles of one a thread: each thread
// tests its own against all that are kept; then the first that is left is kept, and tested by the
// others, until none is left. Ends once enough are kept, or no candidates follow.
__global__ void __launch_bounds__(kNmsThreads, 1)
    batched_nms_image(const float* __restrict__ boxes,     // [N, K, 4]
                      const int64_t* __restrict__ labels,  // [N, K]
                      const int64_t* __restrict__ order,   // [N, K]
                      const bool* __restrict__ valid,      // [N, K], or null
                      int candidates, int count, float threshold,
                      int64_t* indices,  // [N, D]
                      int* counts) {     // [N]
  __shared__ NmsBox kept_boxes[kNmsShared];
  __shared__ NmsBox tile[kNmsThreads];
  // Two, taken in turn: one is written while slower threads read the other.
  __shared__ uint32_t words[2][kNmsWarps];
  __shared__ int partial[kNmsWarps];
  const int64_t first_box = static_cast<int64_t>(blockIdx.x) * candidates;
  const NmsImage image{boxes + 4 * first_box, labels + first_box, order + first_box,
                       valid == nullptr ? nullptr : valid + first_box, candidates};
  indices += static_cast<int64_t>(blockIdx.x) * count;
  const int thread = static_cast<int>(threadIdx.x);
  const int total = count_valid(image, partial);

  int kept = 0, turn = 0;
  for (int first = 0, seen = 0; seen < total && first < candidates && kept < count;
       first += kNmsThreads) {
    const int index = image.at(first + thread);
    bool alive = index >= 0;
    const NmsBox own = image.box(alive ? index : 0);
    tile[thread] = own;
    seen += __syncthreads_count(alive);
    const int shared = kept < kNmsShared ? kept : kNmsShared;
    for (int k = 0; k < shared && alive; ++k) alive = !suppresses(kept_boxes[k], own, threshold);
    for (int k = shared; k < kept && alive; ++k) {
      alive = !suppresses(image.box(indices[k]), own, threshold);
    }
    while (kept < count) {
      const int best = first_alive(alive, words[turn]);
      turn ^= 1;
      if (best == kNmsThreads) break;
      if (thread == best) {
        indices[kept] = index;
        if (kept < kNmsShared) kept_boxes[kept] = own;
      }
      ++kept;
      alive = alive && thread > best && !suppresses(tile[best], own, threshold);
    }
  }
  for (int k = kept + thread; k < count; k += kNmsThreads) indices[k] = 0;
  if (thread == 0) counts[blockIdx.x] = kept;
}

}  // namespace hpvod
