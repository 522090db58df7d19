// Device code of `update_plan`, three launches in order:
//   1. decide   U, how many positions changed and the key decision, a block an image,
//   2. count    whether each pixel is in its list, as a bit, and how many are in each tile,
//   3. scatter  a tile writes its pixels behind those of all tiles before it.
// A list is one run of tiles; all lists share the last two launches. Nothing depends on the order
// in which blocks run, and each launch writes whatever the next one reads.
#pragma once

#include "device.h"
#include "dtype.h"

namespace hpvod {

constexpr int kDecideThreads = 512;
constexpr int kPlanThreads = 256;
constexpr int kPlanWarps = kPlanThreads / 32;

// A tile is one or more chunks of 32 words of 32 pixels, so that a warp can hold the words of a
// chunk, one a lane.
constexpr int kChunkWords = 32;
constexpr int kChunkPixels = 32 * kChunkWords;

constexpr int kMaxPlanLists = 16;

// Which of three disjoint sets of pixels a list holds.
struct PlanMembers {
  bool active;
  bool halo;  // not active, but with an active neighbour
  bool rest;
};

struct PlanList {
  PlanMembers members;
  int ratio;
  int dilation;
  int height;
  int width;
  int pixels;      // N * height * width
  int first_tile;  // of all lists' tiles, where its own begin
  int end_tile;
  int64_t offset;
};

struct PlanLists {
  int tile_chunks;
  PlanList list[kMaxPlanLists];

  // The list of a tile.
  HPVOD_HOST_DEVICE int of_tile(int tile) const {
    int l = 0;
    while (tile >= list[l].end_tile) ++l;
    return l;
  }
};

// U, with the maps of the lists' layers laid over it.
struct PlanMask {
  const bool* values;  // [N, h, w]
  int height;          // h
  int width;           // w

  HPVOD_HOST_DEVICE bool is_active(int n, int row, int column, int ratio) const {
    const int y = row / ratio;
    const int x = column / ratio;
    return values[(n * height + (y < height ? y : height - 1)) * width +
                  (x < width ? x : width - 1)];
  }

  // Whether an active pixel of the layer lies a dilation away, or the pixel itself is active.
  HPVOD_HOST_DEVICE bool has_active_near(int n, int row, int column, const PlanList& list) const {
    bool found = false;
#pragma unroll
    for (int i = -1; i <= 1; ++i) {
#pragma unroll
      for (int j = -1; j <= 1; ++j) {
        const int y = row + i * list.dilation;
        const int x = column + j * list.dilation;
        if (y >= 0 && y < list.height && x >= 0 && x < list.width) {
          found |= is_active(n, y, x, list.ratio);
        }
      }
    }
    return found;
  }

  HPVOD_HOST_DEVICE bool holds(const PlanList& list, int pixel) const {
    const int line = pixel / list.width;  // n * height + row
    const int n = line / list.height;
    const int row = line - n * list.height;
    const int column = pixel - line * list.width;
    if (is_active(n, row, column, list.ratio)) return list.members.active;
    if (list.members.halo == list.members.rest) return list.members.halo;
    return has_active_near(n, row, column, list) ? list.members.halo : list.members.rest;
  }
};

// The sum over the block, for every thread. `partial` is shared memory that no thread still reads.
template <int kWarps>
__device__ __forceinline__ int block_sum(int value, int (&partial)[kWarps]) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, lanes);
  }
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  int sum = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += partial[i];
  return sum;
}

template <typename T>
__global__ void __launch_bounds__(kDecideThreads)
    update_plan_decide(const T* __restrict__ q,              // [N, h, w]
                       const bool* __restrict__ forced_key,  // [N], or null
                       accumulate_t<T> tau, double gamma, int plane,
                       bool* __restrict__ mask,      // [N, h, w]
                       bool* __restrict__ is_key,    // [N]
                       int* __restrict__ changed) {  // [N]
  __shared__ int partial[kDecideThreads / 32];
  const int64_t n = blockIdx.x;
  int count = 0;
  for (int i = threadIdx.x; i < plane; i += kDecideThreads) {
    const bool is_changed = widen(q[n * plane + i]) <= tau;  // not so for a NaN
    mask[n * plane + i] = is_changed;
    count += is_changed;
  }
  count = block_sum(count, partial);
  const bool key =
      forced_key != nullptr ? forced_key[n] : count / static_cast<double>(plane) > gamma;
  if (threadIdx.x == 0) {
    is_key[n] = key;
    changed[n] = count;
  }
  if (!key) return;
  for (int i = threadIdx.x; i < plane; i += kDecideThreads) mask[n * plane + i] = true;
}

__global__ void __launch_bounds__(kPlanThreads)
    update_plan_count(PlanMask mask, PlanLists lists,
                      uint32_t* __restrict__ members,   // [tiles, tile_chunks * kChunkWords]
                      int* __restrict__ tile_counts) {  // [tiles]
  __shared__ int partial[kPlanWarps];
  const int tile = blockIdx.x;
  const PlanList& list = lists.list[lists.of_tile(tile)];
  const int tile_words = lists.tile_chunks * kChunkWords;
  const int first = (tile - list.first_tile) * tile_words;
  int count = 0;
  for (int word = threadIdx.x / 32; word < tile_words; word += kPlanWarps) {
    const int pixel = (first + word) * 32 + threadIdx.x % 32;
    const bool member = pixel < list.pixels && mask.holds(list, pixel);
    const uint32_t bits = __ballot_sync(0xffffffffu, member);
    if (threadIdx.x % 32 == 0) members[static_cast<int64_t>(tile) * tile_words + word] = bits;
    count += member;
  }
  count = block_sum(count, partial);
  if (threadIdx.x == 0) tile_counts[tile] = count;
}

__global__ void __launch_bounds__(kPlanThreads)
    update_plan_scatter(PlanLists lists,
                        const uint32_t* __restrict__ members,  // [tiles, tile_chunks * kChunkWords]
                        const int* __restrict__ tile_counts,   // [tiles]
                        int* __restrict__ pixels,
                        int* __restrict__ counts) {  // [L]
  __shared__ int partial[kPlanWarps];
  const int tile = blockIdx.x;
  const int l = lists.of_tile(tile);
  const PlanList& list = lists.list[l];
  int before = 0;
  for (int i = list.first_tile + threadIdx.x; i < tile; i += kPlanThreads) before += tile_counts[i];
  before = block_sum(before, partial);
  if (threadIdx.x == 0 && tile == list.end_tile - 1) counts[l] = before + tile_counts[tile];

  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  int64_t place = list.offset + before;
  for (int chunk = 0; chunk < lists.tile_chunks; ++chunk) {
    const uint32_t word =
        members[(static_cast<int64_t>(tile) * lists.tile_chunks + chunk) * kChunkWords + lane];
    int up_to = __popc(word);  // members of the words up to this lane's
#pragma unroll
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      const int lower = __shfl_up_sync(0xffffffffu, up_to, lanes);
      if (lane >= lanes) up_to += lower;
    }
    const int first = ((tile - list.first_tile) * lists.tile_chunks + chunk) * kChunkPixels;
#pragma unroll
    for (int i = 0; i < kChunkWords / kPlanWarps; ++i) {
      const int source = i * kPlanWarps + warp;
      const uint32_t bits = __shfl_sync(0xffffffffu, word, source);
      const int end = __shfl_sync(0xffffffffu, up_to, source);
      // Members from this lane's own to the word's last.
      const int rest = __popc(bits >> lane);
      if (bits >> lane & 1) pixels[place + end - rest] = first + source * 32 + lane;
    }
    place += __shfl_sync(0xffffffffu, up_to, 31);
  }
}

}  // namespace hpvod
