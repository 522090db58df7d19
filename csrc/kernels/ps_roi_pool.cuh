// Device code of `ps_roi_pool`.
#pragma once

#include "device.h"
#include "roi_bins.h"
#include "vector.h"

namespace hpvod {

constexpr int kRoiThreads = 256;  // in a block

struct PsRoiPoolSize {
  int batch;     // N
  int channels;  // C
  int height;    // h
  int width;     // w
  int groups;
  int stride;
  int64_t channel_step;
  int64_t pixel_step;
};

// The bins' edges along one side of a RoI, as a block keeps them: [2, groups].
HPVOD_HOST_DEVICE int bin_edge(const BinEdges& edges, int entry, int groups, int side) {
  return entry < groups ? edges.first(entry, side) : edges.end(entry - groups, side);
}

// A block has one RoI, or with gridDim.y blocks a RoI a part of its results, and a thread one
// result at a time. The edges, which take 64-bit divisions, are worked out once a block.
//
// Neighbouring threads have neighbouring bins, each of which reads other pixels of other channels:
// there is nothing to coalesce in either layout. The maps come from L2, where a RoI's pixels lie
// because others overlap it.
template <typename T>
__global__ void __launch_bounds__(kRoiThreads)
    pool_rois(const T* __restrict__ score_maps,  // [N, C, groups, groups, h, w]
              const float* __restrict__ boxes,   // [R, 5]
              T* __restrict__ output,            // [R, C, groups, groups]
              PsRoiPoolSize size) {
  using Real = accumulate_t<T>;
  HPVOD_DYNAMIC_SHARED(int, edges);  // [2, 2, groups]: of rows, then of columns; first, then end
  const int groups = size.groups;
  const float* const box = boxes + static_cast<int64_t>(blockIdx.x) * 5;
  const bool live = has_pixels(box, size.batch);
  for (int k = threadIdx.x; k < 4 * groups; k += blockDim.x) {
    const bool of_rows = k < 2 * groups;
    const BinEdges side(box[of_rows ? 2 : 1], box[of_rows ? 4 : 3], groups, size.stride);
    edges[k] = !live     ? 0
               : of_rows ? bin_edge(side, k, groups, size.height)
                         : bin_edge(side, k - 2 * groups, groups, size.width);
  }
  __syncthreads();

  const int bins = groups * groups;
  const int results = size.channels * bins;
  const int64_t plane = static_cast<int64_t>(size.height) * size.width;
  const T* const image = score_maps + (live ? static_cast<int64_t>(box[0]) * results * plane : 0);
  for (int k = blockIdx.y * blockDim.x + threadIdx.x; k < results; k += gridDim.y * blockDim.x) {
    const int row = k % bins / groups;
    const int column = k % groups;
    const int first_y = edges[row], end_y = edges[groups + row];
    const int first_x = edges[2 * groups + column], end_x = edges[3 * groups + column];
    const T* const map = image + k * size.channel_step;
    // Row by row: so fewer sums are long, and less is rounded away.
    Real total = 0;
    for (int y = first_y; y < end_y; ++y) {
      const T* pixel = map + static_cast<int64_t>(y * size.width + first_x) * size.pixel_step;
      Real sum = 0;
#pragma unroll 4
      for (int x = first_x; x < end_x; ++x, pixel += size.pixel_step) sum += load<1>(pixel)[0];
      total += sum;
    }
    const int area = (end_y - first_y) * (end_x - first_x);
    const Real average[1] = {area == 0 ? Real(0) : total / static_cast<Real>(area)};
    store_once(output + static_cast<int64_t>(blockIdx.x) * results + k, narrow_vector<T>(average));
  }
}

}  // namespace hpvod
