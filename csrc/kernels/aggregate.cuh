// Device code of `aggregate`.
#pragma once

#include "device.h"
#include "similarity.cuh"
#include "vector.h"

namespace hpvod {

constexpr int kAggregatePixels = 4;  // of a block, a warp each

constexpr int kFramePointers = 2 * 32;  // at most T: a lane keeps two frames' weights

// What a thread loads before it uses the first of it: so many vectors of so many frames.
constexpr int kAggregateFrames = 4;
constexpr int kAggregateVectors = 2;

// By value, in constant memory: nothing has to be copied to the device before a launch, and a
// CUDA graph keeps the pointers with its node.
template <typename T>
struct FramePointers {
  const T* features[kFramePointers];    // [N, H, W, C] each
  const T* embeddings[kFramePointers];  // [N, H, W, E]
};

struct AggregateSize {
  int frames;              // T
  int pixels;              // N * H * W
  int channels;            // C
  int embedding_channels;  // E
};

// A warp has one pixel, its lanes 16 bytes each of the pixel's channels. So the sums over
// channels need no shared memory and no barrier, and do not depend on how many pixels there are.
//
// First the cosines. The frames are compared with the current one a few at a time, whose sums
// fit into registers. Its embedding is loaded anew for the next few, but from L1, where a row of
// it lies: only the first time comes from memory, and every other embedding is read but once.
//
// Then the average. The weight of frame t is kept by lane t % 32, which alone computes its
// exponential, and handed to the others by a shuffle: no thread needs an array that grows with T.
//
// Twenty warps share a multiprocessor, more than its share of a 38 x 63 map's pixels; that leaves
// a thread the registers for ten loads of 16 bytes in flight.
template <typename T, int kWidth>
__global__ void __launch_bounds__(32 * kAggregatePixels, 5)
    aggregate_frames(FramePointers<T> maps, AggregateSize size,
                     T* __restrict__ output) {  // [N, H, W, C]
  using Real = accumulate_t<T>;
  constexpr int kStep = 32 * kWidth;  // channels that a warp loads at once
  const int pixel = blockIdx.x * kAggregatePixels + threadIdx.y;
  if (pixel >= size.pixels) return;  // the whole warp
  const int lane = threadIdx.x;
  const int current = size.frames - 1;

  // Of frames `lane` and `lane + 32`. Cosines lie within 1 of 0, so that their exponentials need
  // no maximum taken off.
  Real low = 0;
  Real high = 0;
  const auto keep = [&](int frame, Real cosine) {
    if (lane == frame % 32) (frame < 32 ? low : high) = detail::exponential(cosine);
  };

  const int64_t embedding_row = static_cast<int64_t>(pixel) * size.embedding_channels;
  const T* const current_row = maps.embeddings[current] + embedding_row;
  Real current_square;
  Real current_norm;
  int first = 0;
  do {  // once at least: for the current frame itself
    Real dot[kAggregateFrames] = {};
    Real square[kAggregateFrames] = {};
    current_square = 0;
    for (int c = lane * kWidth; c < size.embedding_channels; c += kAggregateVectors * kStep) {
      Vector<T, kWidth> mine[kAggregateVectors];
      Vector<T, kWidth> other[kAggregateFrames][kAggregateVectors];
#pragma unroll
      for (int v = 0; v < kAggregateVectors; ++v) {
        mine[v] = {};
        if (c + v * kStep < size.embedding_channels) {
          mine[v] = load<kWidth>(current_row + c + v * kStep);
        }
      }
#pragma unroll
      for (int j = 0; j < kAggregateFrames; ++j) {
#pragma unroll
        for (int v = 0; v < kAggregateVectors; ++v) {
          other[j][v] = {};
          if (first + j < current && c + v * kStep < size.embedding_channels) {
            other[j][v] =
                load_once<kWidth>(maps.embeddings[first + j] + embedding_row + c + v * kStep);
          }
        }
      }
#pragma unroll
      for (int v = 0; v < kAggregateVectors; ++v) {
#pragma unroll
        for (int i = 0; i < kWidth; ++i) current_square += mine[v][i] * mine[v][i];
      }
#pragma unroll
      for (int j = 0; j < kAggregateFrames; ++j) {
        if (first + j >= current) break;
#pragma unroll
        for (int v = 0; v < kAggregateVectors; ++v) {
#pragma unroll
          for (int i = 0; i < kWidth; ++i) {
            dot[j] += mine[v][i] * other[j][v][i];
            square[j] += other[j][v][i] * other[j][v][i];
          }
        }
      }
    }
    current_square = warp_sum(current_square);
    current_norm = guarded_norm(current_square);
#pragma unroll
    for (int j = 0; j < kAggregateFrames; ++j) {
      if (first + j >= current) break;
      const Real norm = guarded_norm(warp_sum(square[j]));
      keep(first + j, warp_sum(dot[j]) / (norm * current_norm));
    }
    first += kAggregateFrames;
  } while (first < current);
  keep(current, current_square / (current_norm * current_norm));

  const Real total = warp_sum(low + high);
  low /= total;
  high /= total;

  const int64_t row = static_cast<int64_t>(pixel) * size.channels;
  // All lanes as long as one has channels: they hold each other's weights.
  for (int start = 0; start < size.channels; start += kAggregateVectors * kStep) {
    const int c = start + lane * kWidth;
    Real sum[kAggregateVectors][kWidth] = {};
    for (int frame = 0; frame < size.frames; frame += kAggregateFrames) {
      Vector<T, kWidth> value[kAggregateFrames][kAggregateVectors];
#pragma unroll
      for (int j = 0; j < kAggregateFrames; ++j) {
#pragma unroll
        for (int v = 0; v < kAggregateVectors; ++v) {
          value[j][v] = {};
          if (frame + j < size.frames && c + v * kStep < size.channels) {
            value[j][v] = load_once<kWidth>(maps.features[frame + j] + row + c + v * kStep);
          }
        }
      }
#pragma unroll
      for (int j = 0; j < kAggregateFrames; ++j) {
        if (frame + j >= size.frames) break;
        const Real weight = __shfl_sync(0xffffffffu, frame + j < 32 ? low : high, (frame + j) % 32);
#pragma unroll
        for (int v = 0; v < kAggregateVectors; ++v) {
#pragma unroll
          for (int i = 0; i < kWidth; ++i) sum[v][i] += weight * value[j][v][i];
        }
      }
    }
#pragma unroll
    for (int v = 0; v < kAggregateVectors; ++v) {
      if (c + v * kStep < size.channels) {
        store_once(output + row + c + v * kStep, narrow_vector<T>(sum[v]));
      }
    }
  }
}

}  // namespace hpvod
