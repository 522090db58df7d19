// Device code of `masked_conv2d` without tensor cores: float32, float64, and GPUs before sm_80.
//
// float32 stays off the tensor cores: TF32 rounds every factor to 11 bits, far beyond twice the
// error of a float32 convolution, and three TF32 products a product would cost most of what
// they gain.
#pragma once

#include "masked_conv2d.cuh"

namespace hpvod {

constexpr int kFmaThreads = 256;

template <typename T>
struct FmaTile {
  static constexpr int kRows = sizeof(T) == 8 ? 64 : 128;
  static constexpr int kColumns = 64;
  static constexpr int kStep = 16;           // terms of the sum
  static constexpr int kQuads = kRows / 16;  // a thread's sums: so many rows, four columns
  static constexpr int kPieceBytes = kRows * kColumns * static_cast<int>(sizeof(accumulate_t<T>));
};

namespace detail {

template <typename T>
HPVOD_HOST_DEVICE void write_quad(const ConvMaps<T>& maps, const ConvSize& size, int pixel,
                                  int channel, const accumulate_t<T> (&sum)[4]) {
  constexpr int kWidth = kVectorWidth<T> < 4 ? kVectorWidth<T> : 4;
  if (size.vectors_out) {
#pragma unroll
    for (int i = 0; i < 4; i += kWidth) {
      if (channel + i >= size.out_channels) return;
      accumulate_t<T> values[kWidth];
#pragma unroll
      for (int j = 0; j < kWidth; ++j) values[j] = sum[i + j];
      write_vector(maps, size, pixel, channel + i, values);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (channel + i >= size.out_channels) return;
      accumulate_t<T> value[1] = {sum[i]};
      write_vector(maps, size, pixel, channel + i, value);
    }
  }
}

}  // namespace detail

// 16 x 16 threads, each with four neighbouring columns and one or two runs of four neighbouring
// rows, so that a term takes two or three 16-byte loads from shared memory for its 16 or 32
// multiply-adds. Both operands lie there with the sum's index outermost, double-buffered, and
// the next step's are on their way to registers while a step is computed.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kFmaThreads, 2)
    conv_at_pixels_fma(ConvMaps<T> maps, PixelList list, ConvSize size, ConvWorkspace workspace) {
  using Real = accumulate_t<T>;
  using Tile = FmaTile<T>;
  constexpr int kRows = Tile::kRows, kColumns = Tile::kColumns, kStep = Tile::kStep;
  constexpr int kPad = 4;                           // keeps quads aligned, and spreads the banks
  constexpr int kVectors = kStep / kWidth;          // of a row
  constexpr int kRowStep = kFmaThreads / kVectors;  // between the rows that a thread loads
  constexpr int kLoadsA = kRows * kVectors / kFmaThreads;
  constexpr int kLoadsB = (kColumns * kVectors + kFmaThreads - 1) / kFmaThreads;
  __shared__ alignas(16) Real a[2][kStep][kRows + kPad];
  __shared__ alignas(16) Real b[2][kStep][kColumns + kPad];
  __shared__ ConvRows<kRows> rows;
  __shared__ int last;

  const int count = list.size();
  if (count <= 0) return;
  const int columns = (size.out_channels - 1) / kColumns + 1;
  const ConvTiling tiling(conv_tiles(count, size.out_channels, kRows, kColumns), size.steps,
                          gridDim.x);
  const int thread = threadIdx.x;
  const int load_row = thread / kVectors;
  const int row = thread / 16 * 4;
  const int column = thread % 16 * 4;

  for (int number = 0;; ++number) {
    const ConvItem item = tiling.item(blockIdx.x, number);
    if (item.tile < 0) break;
    const int first_row = item.tile / columns * kRows;
    const int first_column = item.tile % columns * kColumns;
    rows.read(list, size, first_row, count);
    __syncthreads();

    ConvCursor<kWidth, kStep> cursor;
    cursor.slot = thread % kVectors * kWidth;
    cursor.seek(size, item.begin);
    Vector<T, kWidth> from_input[kLoadsA];
    Vector<T, kWidth> from_weight[kLoadsB];
    const auto load_step = [&] {
      const bool inside = cursor.inside(size);
#pragma unroll
      for (int j = 0; j < kLoadsA; ++j) {
        const int pixel = rows.under(size, load_row + j * kRowStep, cursor.dy, cursor.dx);
        from_input[j] = {};
        if (inside && pixel >= 0) {
          from_input[j] = load<kWidth>(
              maps.input + (static_cast<int64_t>(pixel) * size.in_channels + cursor.channel));
        }
      }
#pragma unroll
      for (int j = 0; j < kLoadsB; ++j) {
        const int channel = first_column + load_row + j * kRowStep;
        from_weight[j] = {};
        if (inside && load_row + j * kRowStep < kColumns && channel < size.out_channels) {
          from_weight[j] = load<kWidth>(
              maps.weight +
              (static_cast<int64_t>(channel) * size.taps * size.in_channels + cursor.position));
        }
      }
    };
    const auto store_step = [&](int buffer) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
#pragma unroll
        for (int j = 0; j < kLoadsA; ++j) {
          a[buffer][cursor.slot + k][load_row + j * kRowStep] = from_input[j][k];
        }
#pragma unroll
        for (int j = 0; j < kLoadsB; ++j) {
          if (load_row + j * kRowStep < kColumns) {
            b[buffer][cursor.slot + k][load_row + j * kRowStep] = from_weight[j][k];
          }
        }
      }
    };

    Real sum[Tile::kQuads][4] = {};
    int buffer = 0;
    if (item.begin < item.end) {
      load_step();
      store_step(0);
    }
    __syncthreads();
    for (int step = item.begin; step < item.end; ++step) {
      const bool more = step + 1 < item.end;
      if (more) {
        cursor.advance(size);
        load_step();
      }
#pragma unroll
      for (int k = 0; k < kStep; ++k) {
        const auto right = *reinterpret_cast<const ConvQuad<Real>*>(&b[buffer][k][column]);
#pragma unroll
        for (int quad = 0; quad < kRows / 64; ++quad) {
          const auto left =
              *reinterpret_cast<const ConvQuad<Real>*>(&a[buffer][k][quad * 64 + row]);
#pragma unroll
          for (int y = 0; y < 4; ++y) {
#pragma unroll
            for (int x = 0; x < 4; ++x) sum[quad * 4 + y][x] += left.value[y] * right.value[x];
          }
        }
      }
      buffer ^= 1;
      if (more) store_step(buffer);
      __syncthreads();
    }

    if (item.pieces == 1 || add_pieces<kFmaThreads, 4>(sum, item, workspace, &last)) {
#pragma unroll
      for (int j = 0; j < Tile::kQuads; ++j) {
        const int pixel = rows.pixel[j / 4 * 64 + row + j % 4];
        if (pixel >= 0) detail::write_quad(maps, size, pixel, first_column + column, sum[j]);
      }
    }
    __syncthreads();  // before the next tile's rows
  }
}

}  // namespace hpvod
