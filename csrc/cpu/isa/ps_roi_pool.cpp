// ps_roi_pool. One bin takes C channels that lie groups * groups apart, so the maps are first
// sorted into [N, bin, h, w, C]: all RoIs then sum rows of adjacent values, and those of one bin
// stay in the cache while all RoIs are pooled from them.
#include "../ps_roi_pool.h"

#include <algorithm>

#include "../../kernels/roi_bins.h"
#include "maps.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

int64_t bins_of(const PsRoiPool& params) { return params.groups * params.groups; }
int64_t area_of(const PsRoiPool& params) { return params.height * params.width; }

// The pixels [begin, end) of [N, h, w], channels_last.
template <typename T>
void sort_pixels(const PsRoiPool& params, accumulate_t<T>* sorted, int64_t begin, int64_t end) {
  const int64_t bins = bins_of(params), area = area_of(params), channels = params.channels;
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const T* input = static_cast<const T*>(params.score_maps) + pixel * channels * bins;
    accumulate_t<T>* target = sorted + (pixel / area * bins * area + pixel % area) * channels;
    for (int64_t bin = 0; bin < bins; ++bin, target += area * channels) {
      for (int64_t c = 0; c < channels; ++c) target[c] = widen(input[c * bins + bin]);
    }
  }
}

// The maps [begin, end) of [N, bin], contiguous; so many pixels at a time as stay in the
// first-level cache.
template <typename T>
void sort_maps(const PsRoiPool& params, accumulate_t<T>* sorted, int64_t begin, int64_t end) {
  const int64_t bins = bins_of(params), area = area_of(params), channels = params.channels;
  constexpr int64_t kPixels = 64;
  for (int64_t map = begin; map < end; ++map) {
    const int64_t first_map = map / bins * bins * channels + map % bins;
    const T* input = static_cast<const T*>(params.score_maps) + first_map * area;
    accumulate_t<T>* target = sorted + map * area * channels;
    for (int64_t first = 0; first < area; first += kPixels) {
      const int64_t last = std::min(first + kPixels, area);
      for (int64_t c = 0; c < channels; ++c) {
        const T* values = input + c * bins * area;
        for (int64_t pixel = first; pixel < last; ++pixel) {
          target[pixel * channels + c] = widen(values[pixel]);
        }
      }
    }
  }
}

// What a bin touches of a plane [h, w, C].
struct Window {
  int64_t offset;  // of its first pixel
  int64_t rows;
  int64_t columns;
  int64_t row_step;
  int64_t pixel_step;
};

// kVectors vectors of channels. Row by row: so fewer sums are long, and less is rounded away.
template <typename A, int kVectors>
HPVOD_INLINE void average_vectors(const A* plane, const Window& window, A* average) {
  Vector<A> total[kVectors] = {};
  for (int64_t y = 0; y < window.rows; ++y) {
    const A* pixel = plane + window.offset + y * window.row_step;
    Vector<A> sum[kVectors] = {};
    for (int64_t x = 0; x < window.columns; ++x, pixel += window.pixel_step) {
#pragma GCC unroll 4
      for (int k = 0; k < kVectors; ++k) sum[k] += load(pixel + k * kLanes<A>);
    }
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) total[k] += sum[k];
  }
  const A area = static_cast<A>(window.rows * window.columns);
#pragma GCC unroll 4
  for (int k = 0; k < kVectors; ++k) store(average + k * kLanes<A>, total[k] / area);
}

// kUnroll vectors of channels, or those that hold the `channels` that are left. The last may
// reach into the next pixel: what its lanes then hold is dropped.
template <typename A>
HPVOD_INLINE void average_channels(const A* plane, const Window& window, int64_t channels,
                                   A* average) {
  static_assert(kUnroll == 4);
  if (channels > 3 * kLanes<A>) return average_vectors<A, 4>(plane, window, average);
  if (channels > 2 * kLanes<A>) return average_vectors<A, 3>(plane, window, average);
  if (channels > kLanes<A>) return average_vectors<A, 2>(plane, window, average);
  average_vectors<A, 1>(plane, window, average);
}

template <typename T>
void pool(const PsRoiPool& params, const accumulate_t<T>* sorted, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const int64_t bins = bins_of(params), area = area_of(params), channels = params.channels;
  const int groups = static_cast<int>(params.groups), stride = static_cast<int>(params.stride);
  const int height = static_cast<int>(params.height), width = static_cast<int>(params.width);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t bin = item / params.rois, roi = item % params.rois;
    const float* box = params.boxes + roi * 5;
    T* output = static_cast<T*>(params.output) + roi * channels * bins + bin;
    Window window{0, 0, 0, width * channels, channels};
    const A* plane = sorted;
    if (has_pixels(box, params.batch)) {
      const int i = static_cast<int>(bin) / groups, j = static_cast<int>(bin) % groups;
      const BinEdges rows(box[2], box[4], groups, stride);
      const BinEdges columns(box[1], box[3], groups, stride);
      const int64_t y = rows.first(i, height), x = columns.first(j, width);
      window.rows = rows.end(i, height) - y;
      window.columns = columns.end(j, width) - x;
      window.offset = (y * width + x) * channels;
      plane += (static_cast<int64_t>(box[0]) * bins + bin) * area * channels;
    }
    if (window.rows * window.columns == 0) {
      for (int64_t c = 0; c < channels; ++c) output[c * bins] = narrow<T>(0);
      continue;
    }
    constexpr int64_t kBlock = kUnroll * kLanes<A>;
    for (int64_t first = 0; first < channels; first += kBlock) {
      const int64_t count = std::min(kBlock, channels - first);
      A average[kBlock];
      average_channels<A>(plane + first, window, count, average);
      for (int64_t c = 0; c < count; ++c) output[(first + c) * bins] = narrow<T>(average[c]);
    }
  }
}

}  // namespace

int64_t ps_roi_pool_workspace(const PsRoiPool& params) {
  const int64_t bytes = params.dtype == DType::kFloat64 ? 8 : 4;
  const int64_t values = params.batch * bins_of(params) * area_of(params) * params.channels;
  return values * bytes + kVectorBytes;  // for the vector of the last pixel
}

Range ps_roi_sort_range(const PsRoiPool& params) {
  const int64_t values = params.channels * bins_of(params), area = area_of(params);
  if (params.channel_step != 1) return {area > 0 ? params.batch * bins_of(params) : 0, 1};
  return {params.batch * area, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, values))};
}

void ps_roi_sort(const PsRoiPool& params, void* workspace, int64_t begin, int64_t end) {
  dispatch_type(params.dtype, [&](auto t) {
    using T = decltype(t);
    auto* sorted = static_cast<accumulate_t<T>*>(workspace);
    if (params.channel_step == 1) {
      sort_pixels<T>(params, sorted, begin, end);
    } else {
      sort_maps<T>(params, sorted, begin, end);
    }
  });
}

Range ps_roi_pool_range(const PsRoiPool& params) {
  // Some twenty pixels a bin.
  const int64_t values = 20 * std::max<int64_t>(1, params.channels);
  return {params.rois * bins_of(params), std::max<int64_t>(1, 32768 / values)};
}

void ps_roi_pool(const PsRoiPool& params, const void* workspace, int64_t begin, int64_t end) {
  dispatch_type(params.dtype, [&](auto t) {
    using T = decltype(t);
    pool<T>(params, static_cast<const accumulate_t<T>*>(workspace), begin, end);
  });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
