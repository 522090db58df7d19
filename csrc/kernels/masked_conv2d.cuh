// Device code of `masked_conv2d`: what its two kernels, masked_conv2d_mma.cuh for tensor cores
// and masked_conv2d_fma.cuh for all else, have in common.
//
// The convolution is a matrix product: a row for each listed pixel, a column for each output
// channel, summed over the kernel's taps and the input channels. The rows are gathered from the
// map as they are needed (implicit GEMM); nothing is unfolded in memory. The grid is shaped for
// the GPU alone, since only the device knows how many pixels are listed: from that count, each
// block works out what its share is.
//
// What limits it, by reckoning for an H100 (132 multiprocessors at 1.75 GHz; nothing here has
// been measured). A step of a tile of 128 x 128 x 64 is 512 mma of 2048 multiply-adds: 800 cycles
// at the 1340 a cycle, two thirds of wgmma's, that mma.sync is said to reach there. Shared memory
// takes 512 cycles for its 128 ldmatrix and 256 for what is copied in, so it keeps up. L2 does
// not: 32 KiB a step are 41 bytes a cycle, of the 25 to 30 that each multiprocessor gets when all
// read at once. So 3x3 layers with many pixels are limited by L2, at some 400 Tflop/s. 1x1
// layers at the large strides are limited by memory: 64 -> 256 channels with a residual is 60
// flop a byte. Layers with few pixels are limited by latency, some 2 us to begin, fill the
// pipeline and end, and by reading the weights, which no other pixels share, from L2.
//
// Indices. A pixel, a channel, a step and a tile each fit an int, masked_conv2d.cu sees to that;
// an element of a map takes 64 bits.
#pragma once

#include "device.h"
#include "pixel_list.cuh"
#include "vector.h"

namespace hpvod {

template <typename T>
struct ConvMaps {
  const T* input;               // [N, H, W, I]
  const T* weight;              // [O, kernel height, kernel width, I]
  const accumulate_t<T>* bias;  // [O], or null
  const T* residual;            // [N, H', W', O]; may be `output`; or null
  T* output;                    // [N, H', W', O]
};

struct ConvSize {
  int in_channels;   // I
  int in_height;     // H
  int in_width;      // W
  int out_channels;  // O
  int out_height;    // H'
  int out_width;     // W'
  int taps;          // kernel height * kernel width
  int kernel_width;
  int stride;
  int padding;
  int dilation;
  int blocks;  // of input channels that a tap takes, a step each
  int steps;   // that a sum takes
  bool relu;
  bool vectors_out;  // 16-byte accesses reach every channel of bias, residual and output
};

// Which part of which tile a block computes.
struct ConvItem {
  int tile;   // -1: none
  int begin;  // of the steps
  int end;
  int pieces;       // that the tile's sum is cut into
  int first_piece;  // the place of the first of them among all pieces of the launch
  int piece;        // of this one
  int cut_tile;     // the tile's number among those that are cut
};

// How `blocks` blocks share the product. Full rounds of tiles are computed whole, a tile a block.
// The sums of the tiles of the last, part-filled round are laid end to end and cut into equal
// parts, one for each of `workers` blocks. A part that is not a whole tile is a tile of partial
// sums in the workspace; whoever is last to finish adds up those of a tile. That takes about a
// step a piece, and some steps to begin with: where one worker more would save less, there are
// but so many. (All this is stream-K with its data-parallel rounds, Osama et al., 2023.)
struct ConvTiling {
  static constexpr int kTileSteps = 4;  // as long as it takes to begin and to end a tile

  int steps;
  int blocks;
  int whole;    // tiles of full rounds
  int rest;     // tiles after them
  int workers;  // as many as these: they stay whole
  int rest_cost;

  HPVOD_HOST_DEVICE ConvTiling(int tiles, int steps, int blocks)
      : steps(steps), blocks(blocks), whole(tiles / blocks * blocks), rest(tiles - whole) {
    workers = rest;
    rest_cost = rest > 0 ? steps + kTileSteps : 0;
    // Places in the sums times blocks, below, are to fit an int.
    const bool fits = static_cast<int64_t>(steps) * blocks * blocks < int64_t{1} << 31;
    if (rest == 0 || !fits || !may_be_cut(steps, 1)) return;
    // Parts that end where tiles do, or else as many as there are blocks.
    int pieces = 1;
    while (may_be_cut(steps, pieces) && (pieces + 1) * rest <= blocks) ++pieces;
    if (pieces > 1) {
      workers = pieces * rest;
      rest_cost = (steps - 1) / pieces + 1 + kTileSteps + pieces;
    }
    const int uneven = (rest * steps - 1) / blocks + 1 + 2 * kTileSteps + blocks / rest + 2;
    if (uneven < rest_cost && (pieces + 1) * rest > blocks) {
      workers = blocks;
      rest_cost = uneven;
    }
  }

  // Whether a sum that is cut into so many pieces is better cut into one more.
  static HPVOD_HOST_DEVICE bool may_be_cut(int64_t steps, int pieces) {
    return pieces * (pieces + 1) < steps - kTileSteps;
  }

  // What a block computes first, second and so on.
  HPVOD_HOST_DEVICE ConvItem item(int block, int number) const {
    const int round = number - whole / blocks;
    if (round < 0) return {number * blocks + block, 0, steps, 1, 0, 0, 0};
    if (workers == rest) {
      return {round == 0 && block < rest ? whole + block : -1, 0, steps, 1, 0, 0, 0};
    }
    if (block >= workers) return {-1, 0, 0, 0, 0, 0, 0};
    const int total = rest * steps;
    const int begin = block * total / workers;
    const int end = (block + 1) * total / workers;
    const int cut_tile = begin / steps + round;
    const int first = cut_tile * steps;
    const int last = first + steps;
    if (first >= end) return {-1, 0, 0, 0, 0, 0, 0};
    // From one piece to the next, the worker, the tile or both go up by one: their sum tells all
    // pieces apart, and those of a tile follow each other.
    const int first_worker = ((first + 1) * workers - 1) / total;
    const int last_worker = (last * workers - 1) / total;
    return {whole + cut_tile,
            begin < first ? 0 : begin - first,
            end > last ? steps : end - first,
            last_worker - first_worker + 1,
            first_worker + cut_tile,
            block + cut_tile,
            cut_tile};
  }

  // How many steps the busiest block takes.
  HPVOD_HOST_DEVICE float cost() const {
    return static_cast<float>(whole / blocks) * static_cast<float>(steps + kTileSteps) +
           static_cast<float>(rest_cost);
  }
};

HPVOD_HOST_DEVICE int conv_tiles(int pixels, int out_channels, int rows, int columns) {
  return ((pixels - 1) / rows + 1) * ((out_channels - 1) / columns + 1);
}

// What pieces of tiles are added up in; fewer than twice as many as the grid has blocks.
struct ConvWorkspace {
  int* arrived;  // [tiles that are cut], of each how many of its pieces are done; 0 before
  void* sums;    // [pieces, a tile's sums]
};

// The pixels of a tile: where each lies in the output, and its window in the input.
template <int kRows>
struct ConvRows {
  int pixel[kRows];  // of the output; -1 for a row beyond the list
  int image[kRows];  // the first pixel of its image in the input
  int y[kRows];      // of the window's first tap
  int x[kRows];

  HPVOD_HOST_DEVICE void read(const PixelList& list, const ConvSize& size, int first, int count) {
    constexpr int kOutside = -(1 << 30) - (1 << 29);  // no tap of such a window is on the map
    for (int row = threadIdx.x; row < kRows; row += blockDim.x) {
      const bool listed = row < count - first;
      const int index = listed ? list.pixels[first + row] : -1;
      const int line = index / size.out_width;
      const int n = line / size.out_height;
      pixel[row] = index;
      image[row] = n * size.in_height * size.in_width;
      y[row] = listed ? (line - n * size.out_height) * size.stride - size.padding : kOutside;
      x[row] = (index - line * size.out_width) * size.stride - size.padding;
    }
  }

  // The input's pixel under a tap, or -1 where the tap lies outside the map.
  HPVOD_HOST_DEVICE int under(const ConvSize& size, int row, int dy, int dx) const {
    const int in_y = y[row] + dy;
    const int in_x = x[row] + dx;
    const bool inside = in_y >= 0 && in_y < size.in_height && in_x >= 0 && in_x < size.in_width;
    return inside ? image[row] + in_y * size.in_width + in_x : -1;
  }
};

// Walks one thread along the sum, a step of kStep terms at a time, of which it loads those from
// `slot` on. With vectors (kWidth > 1), a step is a block of channels of one tap. Else the sum is
// one long row, so that three channels of a 7x7 kernel do not leave most of each step empty.
template <int kWidth, int kStep>
struct ConvCursor {
  int slot;
  int channel;  // of the input
  int dy;       // of the tap
  int dx;
  int position;  // in a row of the weight

  HPVOD_HOST_DEVICE void seek(const ConvSize& size, int step) {
    int tap;
    if constexpr (kWidth == 1) {
      position = step * kStep + slot;
      tap = position / size.in_channels;
      channel = position - tap * size.in_channels;
    } else {
      tap = step / size.blocks;
      channel = (step - tap * size.blocks) * kStep + slot;
      position = tap * size.in_channels + channel;
    }
    const int tap_row = tap / size.kernel_width;
    dy = tap_row * size.dilation;
    dx = (tap - tap_row * size.kernel_width) * size.dilation;
  }

  // To the next step; whether that has another tap.
  HPVOD_HOST_DEVICE bool advance(const ConvSize& size) {
    if constexpr (kWidth == 1) {
      seek(size, (position - slot) / kStep + 1);
      return true;
    } else {
      channel += kStep;
      position += kStep;
      if (channel - slot < size.in_channels) return false;
      position += size.in_channels + slot - channel;
      channel = slot;
      dx += size.dilation;
      if (dx == size.kernel_width * size.dilation) {
        dx = 0;
        dy += size.dilation;
      }
      return true;
    }
  }

  HPVOD_HOST_DEVICE bool inside(const ConvSize& size) const {
    return kWidth == 1 ? position < size.taps * size.in_channels : channel < size.in_channels;
  }
};

// Four sums, moved by as few instructions as can be.
template <typename Real>
struct alignas(16) ConvQuad {
  Real value[4];
};

namespace detail {

// Reads what another block has written: past L1, which does not see that.
template <typename Real>
HPVOD_HOST_DEVICE ConvQuad<Real> load_from_l2(const ConvQuad<Real>* address) {
#ifdef __CUDA_ARCH__
  ConvQuad<Real> quad;
  uint4 words[sizeof(quad) / 16];
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(quad) / 16); ++i) {
    words[i] = __ldcg(reinterpret_cast<const uint4*>(address) + i);
  }
  memcpy(&quad, words, sizeof(quad));
  return quad;
#else
  return *address;
#endif
}

// A store that leaves the line in L2: the next layer reads it.
template <typename T, int kWidth>
HPVOD_HOST_DEVICE void store(T* address, const Vector<T, kWidth>& vector) {
#ifdef __CUDA_ARCH__
  using Access = typename Access<sizeof(vector)>::type;
  Access words;
  memcpy(&words, &vector, sizeof(vector));
  *reinterpret_cast<Access*>(address) = words;
#else
  *reinterpret_cast<Vector<T, kWidth>*>(address) = vector;
#endif
}

}  // namespace detail

// Adds the sums of a tile's pieces, if this block is the last to bring its own; else returns
// false, and another block will. They are added in the order of the pieces whoever is last, so
// that the result has the same bits each time. kFlight quads are on their way at a time, as
// registers permit. `last` is the block's, in shared memory.
template <int kThreads, int kFlight, typename Real, int kQuads>
__device__ __forceinline__ bool add_pieces(Real (&sum)[kQuads][4], const ConvItem& item,
                                           const ConvWorkspace& workspace, int* last) {
  auto* const sums = static_cast<ConvQuad<Real>*>(workspace.sums) + threadIdx.x;
  const auto at = [&](int piece, int quad) {
    return sums + (static_cast<int64_t>(piece) * kQuads + quad) * kThreads;
  };
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    *at(item.piece, i) = {{sum[i][0], sum[i][1], sum[i][2], sum[i][3]}};
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    *last = atomicAdd(workspace.arrived + item.cut_tile, 1) == item.pieces - 1;
    __threadfence();
  }
  __syncthreads();
  if (!*last) return false;
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) sum[i][j] = 0;
  }
  constexpr int kGroup = kQuads < kFlight ? kQuads : kFlight;
  constexpr int kBatch = kFlight / kGroup;
#pragma unroll 1
  for (int first = 0; first < item.pieces; first += kBatch) {
#pragma unroll
    for (int group = 0; group < kQuads; group += kGroup) {
      ConvQuad<Real> quad[kBatch][kGroup];
#pragma unroll
      for (int k = 0; k < kBatch; ++k) {
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
          quad[k][i] = {};
          if (first + k < item.pieces) {
            quad[k][i] = detail::load_from_l2(at(item.first_piece + first + k, group + i));
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kBatch; ++k) {
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
#pragma unroll
          for (int j = 0; j < 4; ++j) sum[group + i][j] += quad[k][i].value[j];
        }
      }
      __syncwarp();  // keeps the compiler from loading the next group as well
    }
  }
  return true;
}

// Adds bias and residual to the sums of neighbouring channels of a pixel, and writes them.
template <typename T, int kWidth>
HPVOD_HOST_DEVICE void write_vector(const ConvMaps<T>& maps, const ConvSize& size, int pixel,
                                    int channel, accumulate_t<T> (&sum)[kWidth]) {
  using Real = accumulate_t<T>;
  constexpr int kBiasWidth = kVectorWidth<Real> < kWidth ? kVectorWidth<Real> : kWidth;
  const int64_t element = static_cast<int64_t>(pixel) * size.out_channels + channel;
  if (maps.bias != nullptr) {
#pragma unroll
    for (int i = 0; i < kWidth; i += kBiasWidth) {
      const Vector<Real, kBiasWidth> bias = load<kBiasWidth>(maps.bias + channel + i);
#pragma unroll
      for (int j = 0; j < kBiasWidth; ++j) sum[i + j] += bias[j];
    }
  }
  if (maps.residual != nullptr) {
    // Not by the read-only path: where the residual is the output, this kernel writes it.
    const Vector<T, kWidth> residual = load_once<kWidth>(maps.residual + element);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum[i] += residual[i];
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    if (size.relu && sum[i] < 0) sum[i] = 0;  // not max, in which a NaN loses
  }
  detail::store(maps.output + element, narrow_vector<T>(sum));
}

}  // namespace hpvod
