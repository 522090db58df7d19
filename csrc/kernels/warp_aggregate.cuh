// Device code of `warp_aggregate`.
#pragma once

#include "similarity.cuh"
#include "warp.cuh"

namespace hpvod {

// A block has a square of so many pixels a side, a warp each: they sample nearly the same pixels
// of the key frame, and with three rows of three in place of four times four, nearly half of what
// they sample comes from L1. Larger squares save little more, and leave the multiprocessors with
// more unequal numbers of blocks: the networks' maps have few pixels.
constexpr int kWarpAggregateSide = 2;

// Vectors of a pixel's channels whose loads a thread has in flight together, at five loads each;
// and where the mask is 0, at eight.
constexpr int kWarpAggregateVectors = 2;
constexpr int kWarpAggregateOwnVectors = 1;

template <typename T>
struct WarpAggregateMaps {
  const T* key_feature;    // [N, H, W, C]
  const T* key_embedding;  // [N, H, W, E]
  const T* feature;        // [N, H, W, C]
  const T* embedding;      // [N, H, W, E]
  const T* own_feature;    // [N, H, W, C], or null
  const T* own_embedding;  // [N, H, W, E], or null
  const T* scale;          // [N, H, W, C], or null
};

// One pixel's channels of a map.
template <typename T, int kWidth>
struct PlainRow {
  using Values = Vector<T, kWidth>;
  const T* row;
  int channels;

  // At `c`; beyond the last channel, zeros.
  __device__ __forceinline__ Values read(int c) const {
    Values values = {};
    if (c < channels) values = load_once<kWidth>(row + c);
    return values;
  }
  __device__ __forceinline__ accumulate_t<T> value(const Values& values, int i) const {
    return values[i];
  }
};

// One pixel's channels of a map warped along the flow, sampled as they are asked for.
template <typename T, int kWidth>
struct WarpedRow {
  struct Values {
    Vector<T, kWidth> corner[4];
    Vector<T, kWidth> factor;
  };
  const T* map;
  int channels;
  int corner;  // the pixel that is corner 0
  int width;   // of the map
  const Weights<accumulate_t<T>>& weight;
  const T* scale;  // this pixel's, or null

  __device__ __forceinline__ Values read(int c) const {
    Values values = {};
    if (c >= channels) return values;
    const int64_t first = static_cast<int64_t>(corner) * channels + c;
    const int64_t next_row = static_cast<int64_t>(width) * channels;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (weight[k] != 0) {
        values.corner[k] = load<kWidth>(map + (first + (k >> 1) * next_row + (k & 1) * channels));
      }
    }
    if (scale != nullptr) values.factor = load_once<kWidth>(scale + c);
    return values;
  }
  __device__ __forceinline__ accumulate_t<T> value(const Values& values, int i) const {
    accumulate_t<T> sum = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) sum += weight[k] * values.corner[k][i];
    return scale == nullptr ? sum : sum * values.factor[i];
  }
};

// What a thread has in flight of the key frame's row and of the current one's.
template <int kVectors, int kStep, typename Key, typename Current>
struct RowPair {
  typename Key::Values key[kVectors];
  typename Current::Values current[kVectors];

  __device__ __forceinline__ RowPair(const Key& key_row, const Current& current_row, int c) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      key[v] = key_row.read(c + v * kStep);
      current[v] = current_row.read(c + v * kStep);
    }
  }
};

// One pixel of the result, by one warp.
template <int kVectors, typename T, int kWidth, typename Current>
__device__ __forceinline__ void aggregate_with_key(const WarpedRow<T, kWidth>& key_embedding,
                                                   const Current& embedding,
                                                   const WarpedRow<T, kWidth>& key_feature,
                                                   const Current& feature, T* output) {
  using Real = accumulate_t<T>;
  constexpr int kStep = 32 * kWidth;  // channels that a warp loads at once
  using Pair = RowPair<kVectors, kStep, WarpedRow<T, kWidth>, Current>;
  const int first = threadIdx.x * kWidth;

  Real dot = 0;
  Real key_square = 0;
  Real square = 0;
  for (int c = first; c < embedding.channels; c += kVectors * kStep) {
    const Pair pair(key_embedding, embedding, c);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const Real key = key_embedding.value(pair.key[v], i);
        const Real current = embedding.value(pair.current[v], i);
        dot += key * current;
        key_square += key * key;
        square += current * current;
      }
    }
  }

  // On their way while the lanes add up what they have.
  Pair pair(key_feature, feature, first);

  dot = warp_sum(dot);
  key_square = warp_sum(key_square);
  square = warp_sum(square);
  const Real norm = guarded_norm(square);
  const Real cosine = dot / (guarded_norm(key_square) * norm);
  const Real own_cosine = square / (norm * norm);
  // The softmax of two needs one exponential, and the cosines are within 1 of 0.
  const Real ratio = detail::exponential(own_cosine - cosine);
  const Real key_weight = 1 / (1 + ratio);
  const Real weight = ratio * key_weight;

  for (int c = first; c < feature.channels; c += kVectors * kStep) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      Real sum[kWidth];
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        sum[i] = key_weight * key_feature.value(pair.key[v], i) +
                 weight * feature.value(pair.current[v], i);
      }
      if (c + v * kStep < feature.channels) {
        store_once(output + c + v * kStep, narrow_vector<T>(sum));
      }
    }
    pair = Pair(key_feature, feature, c + kVectors * kStep);
  }
}

// A warp has one pixel, its lanes 16 bytes each of the pixel's channels. So the sums over
// channels need no shared memory and no barrier, and an image's result does not depend on the
// batch that it is in.
//
// Two passes over the channels, the embeddings' for the weights and the features' for the sum,
// and a warp goes straight from one to the next: all that is asked for twice, by neighbours, are
// the key frame's pixels, and everything else is read or written once. With ten loads of 16 bytes
// in flight a thread, the 18 pixels that are a multiprocessor's share of a 38 x 63 map are, by
// reckoning, enough to hide the latency of memory.
template <typename T, int kWidth>
__global__ void __launch_bounds__(32 * kWarpAggregateSide * kWarpAggregateSide, 5)
    warp_and_aggregate(WarpAggregateMaps<T> maps,
                       Flow<T> flow,                   // [N, 2, H, W]
                       const bool* __restrict__ mask,  // [N, H, W], or null
                       T* __restrict__ output,         // [N, H, W, C]
                       WarpSize size, int embedding_channels) {
  constexpr int kSide = kWarpAggregateSide;
  const int tiles_x = (size.width + kSide - 1) / kSide;
  const int tiles_y = (size.height + kSide - 1) / kSide;
  const int line = blockIdx.x / tiles_x;  // n * tiles_y + the tile's row
  const int n = line / tiles_y;
  const int row = (line - n * tiles_y) * kSide + threadIdx.z;
  const int column = (blockIdx.x - line * tiles_x) * kSide + threadIdx.y;
  if (row >= size.height || column >= size.width) return;  // the whole warp

  const int pixel = (n * size.height + row) * size.width + column;
  const bool updated = mask == nullptr || mask[pixel];
  const BilinearTaps<accumulate_t<T>> taps = read_taps(flow, size, n, row, column);
  const Weights<accumulate_t<T>> weight(taps);
  const int corner = size.feature_start(n) + taps.y * size.width + taps.x;
  const int64_t feature_row = static_cast<int64_t>(pixel) * size.channels;
  const int64_t embedding_row = static_cast<int64_t>(pixel) * embedding_channels;

  using Plain = PlainRow<T, kWidth>;
  using Warped = WarpedRow<T, kWidth>;
  const Warped key_feature{maps.key_feature, size.channels, corner, size.width, weight, nullptr};
  const Warped key_embedding{
      maps.key_embedding, embedding_channels, corner, size.width, weight, nullptr};
  if (updated) {
    aggregate_with_key<kWarpAggregateVectors>(
        key_embedding, Plain{maps.embedding + embedding_row, embedding_channels}, key_feature,
        Plain{maps.feature + feature_row, size.channels}, output + feature_row);
  } else {
    const T* const scale = maps.scale == nullptr ? nullptr : maps.scale + feature_row;
    aggregate_with_key<kWarpAggregateOwnVectors>(
        key_embedding,
        Warped{maps.own_embedding, embedding_channels, corner, size.width, weight, nullptr},
        key_feature, Warped{maps.own_feature, size.channels, corner, size.width, weight, scale},
        output + feature_row);
  }
}

}  // namespace hpvod
