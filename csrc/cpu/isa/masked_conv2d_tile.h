// The hot loop of masked_conv2d: the sums of a tile of pixels and a panel of output channels, over
// a chunk of the depth.
#pragma once

#include <algorithm>

#include "maps.h"
#include "vector.h"

namespace hpvod {
namespace HPVOD_ISA {

// Registers: kRows * kVectors sums, kVectors of weights, and a value of the input that is broadcast
// (with AVX-512, within the multiplication). More rows than six would need more pointers than
// there are integer registers.
constexpr int kRows = 6;
constexpr int kVectors = kVectorBytes == 64 ? 4 : 2;
template <typename T>
constexpr int kPanel = kVectors * kLanes<T>;

constexpr int64_t kLine = 64;  // bytes that memory moves at once

// What a pixel of a tile reads and where its sums go.
template <typename T>
struct Tile {
  using A = accumulate_t<T>;

  int64_t rows;          // pixels; those beyond repeat the last and are not stored
  int64_t pixel[kRows];  // in the output
  A* sums[kRows];        // [O]: between chunks
};

// The start and the end of the sums of one panel.
template <typename T>
struct Epilogue {
  using A = accumulate_t<T>;

  const A* bias;      // of the panel's first channel on, or null
  const T* residual;  // [N, H', W', O] from the panel's first channel on, or null
  T* output;          // likewise
  int64_t channels;   // O, from one pixel to the next
  int64_t count;      // channels of the panel
  bool first;         // chunk
  bool last;
  bool relu;
};

// What the loop fetches while it computes. Fetched in one go before the loop, it would hold the
// loop up until memory has delivered most of it.
template <typename T>
struct Ahead {
  const accumulate_t<T>* const* rows;  // the next tile's, as add_products takes them, or null
  const char* weights;                 // of the next chunk or panel: this tile's share of them
  int64_t step;                        // bytes from one fetch of weights to the next, at most kLine
};

// A row of floats has as many lines as an eighth of its depth has pairs of channels: for every pair
// a line is fetched, in six parts of the loop of rows, if of any, in the others of weights.
constexpr int kParts = 8;
// With AVX-512 a pair's multiplications take long enough to fetch one of weights in every part.
constexpr bool kFetchesTwo = kVectorBytes == 64;
HPVOD_INLINE int64_t pairs_before(int64_t part, int64_t depth) { return depth * part / kParts / 2; }

// One chunk of one tile and panel, of which the first kUsed vectors have channels; kWhole: all of
// their lanes do. rows: for each tap its kRows rows, from the chunk's first channel on; weights:
// [taps * depth, kPanel].
// Not inlined: among the callers' variables, the loop's would not all get registers.
template <int kUsed, bool kWhole, typename T>
__attribute__((noinline)) void add_products(const accumulate_t<T>* const* rows, int64_t taps,
                                            int64_t depth, const accumulate_t<T>* weights,
                                            const Tile<T>& tile, const Epilogue<T>& epilogue,
                                            int64_t channel, const Ahead<T>& ahead) {
  using A = accumulate_t<T>;
  using V = Vector<T>;
  constexpr int lanes = kLanes<T>;
  const auto count_of = [&](int v) {
    return kWhole ? lanes
                  : std::min<int64_t>(lanes, std::max<int64_t>(0, epilogue.count - v * lanes));
  };
  // Every loop over sums is unrolled, or they would not stay in registers.
  V sums[kRows][kUsed] = {};
  const char* next_weights = ahead.weights;
  for (int64_t tap = 0; tap < taps; ++tap) {
    const A* row[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) row[r] = rows[tap * kRows + r];
    int64_t c = 0;
    const auto multiply = [&]() __attribute__((always_inline)) {
      V weight[kUsed];
#pragma GCC unroll 8
      for (int v = 0; v < kUsed; ++v) weight[v] = load(weights + v * lanes);
      weights += kPanel<T>;
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const V value = row[r][c] - V{};
#pragma GCC unroll 8
        for (int v = 0; v < kUsed; ++v) {
          sums[r][v] = multiply_add(value, weight[v], sums[r][v]);
        }
      }
      ++c;
    };
    for (int part = 0; part < kParts; ++part) {
      if (part == kParts - 1 && tap == taps - 1 && !epilogue.first) {
        // The sums so far, which the tiles since have pushed out of the first-level cache.
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
          for (int v = 0; v < kUsed; ++v) __builtin_prefetch(tile.sums[r] + channel + v * lanes, 1);
        }
      }
      const bool of_row = ahead.rows && part < kRows;
      const char* next =
          of_row ? reinterpret_cast<const char*>(ahead.rows[tap * kRows + part]) : next_weights;
      const int64_t step = of_row ? kLine : kFetchesTwo ? 0 : ahead.step;
      const int64_t pairs = pairs_before(part + 1, depth) - pairs_before(part, depth);
      for (int64_t i = 0; i < pairs; ++i) {
        __builtin_prefetch(next, 0, 2);  // into the second-level cache
        next += step;
        multiply();
        if constexpr (kFetchesTwo) {
          __builtin_prefetch(next_weights, 0, 2);
          next_weights += ahead.step;
        }
        multiply();
      }
      if (!kFetchesTwo && !of_row) next_weights = next;
    }
    if (depth % 2) multiply();
  }

  // Only now are they added to what was there before: sums of sums round less.
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    if (r >= tile.rows) continue;
    const int64_t row = tile.pixel[r] * epilogue.channels;
    A* kept = tile.sums[r] + channel;
#pragma GCC unroll 8
    for (int v = 0; v < kUsed; ++v) {
      const auto count = count_of(v);
      V sum = sums[r][v];
      if (!epilogue.first) {
        sum += load(kept + v * lanes, count);
      } else {
        if (epilogue.bias) sum += load(epilogue.bias + v * lanes, count);
        if (epilogue.residual) sum += load(epilogue.residual + row + v * lanes, count);
      }
      if (!epilogue.last) {
        store(kept + v * lanes, sum, count);
      } else {
        // Not a maximum: it would make 0 of NaN.
        if (epilogue.relu) sum = sum < V{} ? V{} : sum;
        store(epilogue.output + row + v * lanes, sum, count);
      }
    }
  }
}

template <typename T>
using AddProducts = decltype(&add_products<kVectors, true, T>);

// That of a panel with as many channels.
template <typename T, int kUsed = kVectors>
AddProducts<T> add_products_of(int64_t channels) {
  if (channels == kPanel<T>) return add_products<kVectors, true, T>;
  if constexpr (kUsed > 1) {
    if (channels <= (kUsed - 1) * kLanes<T>) return add_products_of<T, kUsed - 1>(channels);
  }
  return add_products<kUsed, false, T>;
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
