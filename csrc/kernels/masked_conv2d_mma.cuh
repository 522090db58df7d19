// Device code of `masked_conv2d` on the tensor cores of sm_80 and newer: float16 and bfloat16.
#pragma once

#include "masked_conv2d.cuh"
#include "mma.h"

namespace hpvod {

constexpr int kMmaStep = 64;  // terms of the sum: rows of 128 bytes in shared memory
constexpr int kMmaRowBytes = 2 * kMmaStep;

// Three stages of the large tile, six of the small one. With the rows' places just below the
// 99 KiB that sm_86 grants a block.
constexpr int kMmaStageBytes = 96 * 1024;

// Four warps, for fewer and larger ones read less from shared memory, and two blocks (an H100 has
// the memory for that): one computes while the other begins or ends a tile.
constexpr int kMmaThreads = 128;

template <int kTileRows, int kTileColumns>
struct MmaTile {
  static constexpr int kRows = kTileRows;
  static constexpr int kColumns = kTileColumns;
  static constexpr int kStages = kMmaStageBytes / (kMmaRowBytes * (kRows + kColumns));
  static constexpr int kPieceBytes = kRows * kColumns * static_cast<int>(sizeof(float));

  // 2 x 2 warps share a tile.
  static constexpr int kWarpRows = kRows / 2;
  static constexpr int kWarpColumns = kColumns / 2;
  static constexpr int kFragmentRows = kWarpRows / 16;
  static constexpr int kFragmentColumns = kWarpColumns / 8;

  // On the way out, the sums lie in the same memory, a row this many apart: with 8 more than
  // a power of two, the fragments' stores meet no bank conflict.
  static constexpr int kSumsStride = kColumns + 8;
  static_assert(kRows * kSumsStride * static_cast<int>(sizeof(float)) <= kMmaStageBytes, "");
};

// By their operations, a step of the large tile takes four of the small one's; by what they read
// from L2, two. The small one's warps are bound by shared memory, about half way between.
using LargeMmaTile = MmaTile<128, 128>;
using SmallMmaTile = MmaTile<64, 64>;
constexpr float kLargeMmaStepCost = 2.25f;

// What is read once a tile or once a step lies here as well: registers are short.
struct MmaShared {
  alignas(128) unsigned char stages[kMmaStageBytes];  // each a tile of pixels and one of weights
  ConvRows<LargeMmaTile::kRows> rows;
  ConvTiling tiling;
  ConvItem item;
  int last;
};

#if HPVOD_HAS_MMA

namespace detail {

// Where a row's 16-byte chunk lies in a stage. Rotating the chunks by the row lets ldmatrix,
// which reads one chunk of eight rows, find them in different banks.
HPVOD_HOST_DEVICE int swizzled(int row, int chunk) {
  return row * kMmaRowBytes + ((chunk ^ (row & 7)) << 4);
}

// Fills stages, step after step.
template <typename T, typename Tile, int kWidth>
class MmaLoader {
 public:
  HPVOD_HOST_DEVICE MmaLoader(const ConvMaps<T>& maps, const ConvSize& size, MmaShared& shared,
                              int first_column, int first_step)
      : maps_(maps), size_(size), shared_(shared), first_column_(first_column) {
    cursor_.slot = threadIdx.x % kLanes * kWidth;
    cursor_.seek(size, first_step);
    find_pixels();
  }

  HPVOD_HOST_DEVICE void load(int stage) {
    unsigned char* const a = shared_.stages + stage * kMmaRowBytes * (Tile::kRows + Tile::kColumns);
    unsigned char* const b = a + kMmaRowBytes * Tile::kRows;
    if constexpr (kWidth == 1) {
      gather(a, b);
    } else {
      copy(a, b);
    }
    if (cursor_.advance(size_)) find_pixels();
  }

 private:
  static constexpr int kLanes = kMmaStep / kWidth;  // threads that share a row
  static constexpr int kRowStep = kMmaThreads / kLanes;
  static constexpr int kLoadsA = Tile::kRows / kRowStep;
  static constexpr int kLoadsB = Tile::kColumns / kRowStep;

  HPVOD_HOST_DEVICE int first_row() const { return threadIdx.x / kLanes; }

  // Where the pixels that this thread copies from begin, until the tap changes.
  HPVOD_HOST_DEVICE void find_pixels() {
    if constexpr (kWidth > 1) {
      const int row = opaque(threadIdx.x) / kLanes;
#pragma unroll
      for (int i = 0; i < kLoadsA; ++i) {
        const int pixel = shared_.rows.under(size_, row + i * kRowStep, cursor_.dy, cursor_.dx);
        pixel_chunk_[i] = pixel < 0 ? -1 : pixel * (size_.in_channels / kWidth);
      }
    }
  }

  // Chunks, of 16 bytes, are counted in 32 bits: masked_conv2d.cu sees to that.
  static HPVOD_HOST_DEVICE const T* chunk(const T* map, int number) {
    return map + static_cast<int64_t>(static_cast<uint32_t>(number)) * kWidth;
  }

  HPVOD_HOST_DEVICE void copy(unsigned char* a, unsigned char* b) const {
    // The row steps are multiples of eight, so that all rows of a thread rotate alike.
    static_assert(kRowStep % 8 == 0, "");
    const int thread = opaque(threadIdx.x);
    const int row = thread / kLanes;
    const int place = swizzled(row, thread % kLanes);
    const bool inside = cursor_.inside(size_);
    const int channel_chunk = cursor_.channel / kWidth;
    // Where nothing is to be read, the address may be any.
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) {
      cp_async_16(a + place + i * kRowStep * kMmaRowBytes,
                  chunk(maps_.input, pixel_chunk_[i] + channel_chunk),
                  inside && pixel_chunk_[i] >= 0);
    }
    const int row_chunks = size_.taps * (size_.in_channels / kWidth);
    const int rows = inside ? size_.out_channels - first_column_ - row : 0;
    const int weight_chunk = (first_column_ + row) * row_chunks + cursor_.position / kWidth;
#pragma unroll
    for (int i = 0; i < kLoadsB; ++i) {
      cp_async_16(b + place + i * kRowStep * kMmaRowBytes,
                  chunk(maps_.weight, weight_chunk + i * kRowStep * row_chunks),
                  i * kRowStep < rows);
    }
  }

  // Element by element, for channels that are no vectors: the image, above all.
  HPVOD_HOST_DEVICE void gather(unsigned char* a, unsigned char* b) const {
    const bool inside = cursor_.inside(size_);
    const auto place = [&](unsigned char* tile, int row) {
      return reinterpret_cast<T*>(tile + swizzled(row, cursor_.slot / 8)) + cursor_.slot % 8;
    };
#pragma unroll 8
    for (int i = 0; i < kLoadsA; ++i) {
      const int row = first_row() + i * kRowStep;
      const int pixel = shared_.rows.under(size_, row, cursor_.dy, cursor_.dx);
      T value = {};
      if (inside && pixel >= 0) {
        value = maps_.input[static_cast<int64_t>(pixel) * size_.in_channels + cursor_.channel];
      }
      *place(a, row) = value;
    }
#pragma unroll 8
    for (int i = 0; i < kLoadsB; ++i) {
      const int row = first_row() + i * kRowStep;
      T value = {};
      if (inside && first_column_ + row < size_.out_channels) {
        value =
            maps_
                .weight[static_cast<int64_t>(first_column_ + row) * size_.taps * size_.in_channels +
                        cursor_.position];
      }
      *place(b, row) = value;
    }
  }

  const ConvMaps<T>& maps_;
  const ConvSize& size_;
  MmaShared& shared_;
  int first_column_;
  ConvCursor<kWidth, kMmaStep> cursor_;
  int pixel_chunk_[kWidth > 1 ? kLoadsA : 1];  // -1: outside the map
};

// Multiplies the tiles of a stage.
template <typename T, typename Tile>
HPVOD_HOST_DEVICE void multiply(float (&sum)[Tile::kFragmentRows * Tile::kFragmentColumns][4],
                                const unsigned char* stage) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  // Of the four matrices of an ldmatrix, the second is the lower half of a's fragment, and the
  // right half of b's, which lies in memory with its columns as rows; the third is the reverse.
  const int row_a = warp / 2 * Tile::kWarpRows + lane % 16;
  const int row_b = warp % 2 * Tile::kWarpColumns + lane / 16 * 8 + lane % 8;
  const unsigned char* const a = stage + row_a * kMmaRowBytes;
  const unsigned char* const b = stage + (Tile::kRows + row_b) * kMmaRowBytes;
  const int chunk_a = (lane / 16 ^ lane % 8) << 4;
  const int chunk_b = (lane / 8 % 2 ^ lane % 8) << 4;
#pragma unroll
  for (int k = 0; k < kMmaStep / 16; ++k) {
    uint32_t right[Tile::kFragmentColumns / 2][4];
#pragma unroll
    for (int x = 0; x < Tile::kFragmentColumns / 2; ++x) {
      ldmatrix_x4(right[x], b + x * 16 * kMmaRowBytes + (chunk_b ^ k << 5));
    }
#pragma unroll
    for (int y = 0; y < Tile::kFragmentRows; ++y) {
      uint32_t left[4];
      ldmatrix_x4(left, a + y * 16 * kMmaRowBytes + (chunk_a ^ k << 5));
#pragma unroll
      for (int x = 0; x < Tile::kFragmentColumns; ++x) {
        mma_m16n8k16(sum[y * Tile::kFragmentColumns + x], left, right[x / 2][x % 2 * 2],
                     right[x / 2][x % 2 * 2 + 1], T{});
      }
    }
  }
}

// Fragments give a thread two neighbouring channels of a row; by way of shared memory, it gets
// the eight that make a 16-byte access.
template <typename T, typename Tile>
HPVOD_HOST_DEVICE void write_tile(
    const float (&sum)[Tile::kFragmentRows * Tile::kFragmentColumns][4], const ConvMaps<T>& maps,
    const ConvSize& size, MmaShared& shared, int first_column) {
  auto* const sums = reinterpret_cast<float*>(shared.stages);
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int row = warp / 2 * Tile::kWarpRows + lane / 4;
  const int column = warp % 2 * Tile::kWarpColumns + lane % 4 * 2;
#pragma unroll
  for (int y = 0; y < Tile::kFragmentRows; ++y) {
#pragma unroll
    for (int x = 0; x < Tile::kFragmentColumns; ++x) {
      const float (&fragment)[4] = sum[y * Tile::kFragmentColumns + x];
      float* const place = sums + (row + y * 16) * Tile::kSumsStride + column + x * 8;
      *reinterpret_cast<float2*>(place) = make_float2(fragment[0], fragment[1]);
      *reinterpret_cast<float2*>(place + 8 * Tile::kSumsStride) =
          make_float2(fragment[2], fragment[3]);
    }
  }
  __syncthreads();
  constexpr int kLanes = Tile::kColumns / 8;
#pragma unroll 4
  for (int i = threadIdx.x; i < Tile::kRows * kLanes; i += kMmaThreads) {
    const int pixel = shared.rows.pixel[i / kLanes];
    const int channel = first_column + i % kLanes * 8;
    if (pixel < 0 || channel >= size.out_channels) continue;
    const float* const place = sums + i / kLanes * Tile::kSumsStride + i % kLanes * 8;
    if (size.vectors_out) {
      const auto low = *reinterpret_cast<const ConvQuad<float>*>(place);
      const auto high = *reinterpret_cast<const ConvQuad<float>*>(place + 4);
      float values[8] = {low.value[0],  low.value[1],  low.value[2],  low.value[3],
                         high.value[0], high.value[1], high.value[2], high.value[3]};
      write_vector(maps, size, pixel, channel, values);
    } else {
#pragma unroll 1
      for (int j = 0; j < 8 && channel + j < size.out_channels; ++j) {
        float value[1] = {place[j]};
        write_vector(maps, size, pixel, channel + j, value);
      }
    }
  }
}

template <typename T, typename Tile, int kWidth>
HPVOD_HOST_DEVICE void mma_tiles(const ConvMaps<T>& maps, const PixelList& list,
                                 const ConvSize& size, const ConvWorkspace& workspace,
                                 const ConvTiling& tiling, MmaShared& shared) {
  constexpr int kStages = Tile::kStages;
  constexpr int kStageBytes = kMmaRowBytes * (Tile::kRows + Tile::kColumns);
  const int columns = (size.out_channels - 1) / Tile::kColumns + 1;
  if (threadIdx.x == 0) shared.tiling = tiling;
  for (int number = 0;; ++number) {
    if (threadIdx.x == 0) shared.item = shared.tiling.item(blockIdx.x, number);
    __syncthreads();
    if (shared.item.tile < 0) break;
    shared.rows.read(list, size, shared.item.tile / columns * Tile::kRows, list.size());
    __syncthreads();
    const int first_column = shared.item.tile % columns * Tile::kColumns;

    // Beyond the last step, empty groups keep the count of those to wait for.
    MmaLoader<T, Tile, kWidth> loader(maps, size, shared, first_column, shared.item.begin);
    int step = shared.item.begin;
#pragma unroll 1
    for (int stage = 0; stage < kStages - 1; ++stage) {
      if (step + stage < shared.item.end) loader.load(stage);
      cp_async_commit();
    }
    float sum[Tile::kFragmentRows * Tile::kFragmentColumns][4] = {};
    int stage = 0;
#pragma unroll 1
    for (; step < shared.item.end; ++step) {
      cp_async_wait<kStages - 2>();
      __syncthreads();  // all see this step's stage, and are done with the one before
      if (step + kStages - 1 < shared.item.end) loader.load(stage == 0 ? kStages - 1 : stage - 1);
      cp_async_commit();
      multiply<T, Tile>(sum, shared.stages + stage * kStageBytes);
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
    cp_async_wait<0>();
    __syncthreads();  // the stages are free for the sums

    if (shared.item.pieces == 1 ||
        add_pieces<kMmaThreads, 16>(sum, shared.item, workspace, &shared.last)) {
      write_tile<T, Tile>(sum, maps, size, shared, first_column);
    }
    __syncthreads();  // before the next tile's rows
  }
}

}  // namespace detail

#endif  // HPVOD_HAS_MMA

// Vectors of kWidth channels, or one by one.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kMmaThreads, 2)
    conv_at_pixels_mma(ConvMaps<T> maps, PixelList list, ConvSize size, ConvWorkspace workspace) {
#if HPVOD_HAS_MMA
  if constexpr (sizeof(T) == 2) {
    HPVOD_DYNAMIC_SHARED(uint4, memory);
    auto& shared = *reinterpret_cast<MmaShared*>(memory);
    const int count = list.size();
    if (count <= 0) return;
    const auto tiling = [&](int rows, int columns) {
      return ConvTiling(conv_tiles(count, size.out_channels, rows, columns), size.steps, gridDim.x);
    };
    const ConvTiling small = tiling(SmallMmaTile::kRows, SmallMmaTile::kColumns);
    if constexpr (kWidth > 1) {
      const ConvTiling large = tiling(LargeMmaTile::kRows, LargeMmaTile::kColumns);
      if (large.cost() * kLargeMmaStepCost < small.cost()) {
        detail::mma_tiles<T, LargeMmaTile, kWidth>(maps, list, size, workspace, large, shared);
        return;
      }
    }
    detail::mma_tiles<T, SmallMmaTile, kWidth>(maps, list, size, workspace, small, shared);
  }
#endif
}

}  // namespace hpvod
