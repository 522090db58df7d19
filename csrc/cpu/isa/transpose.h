// [rows, columns] to [columns, rows], square by square in registers. Contiguous maps are
// brought to channels_last so (rows = channels, columns = pixels) and back, a block of
// channels that fits the cache at a time: for the price of two passes over the cache, a
// kernel then computes on rows of channels that share one sampling position, and needs no
// gather.
#pragma once

#include <algorithm>

#include "vector.h"

namespace hpvod {
namespace HPVOD_ISA {

// `input_step` and `output_step` are from one row to the next.
template <typename T>
void transpose_matrix(const T* input, int64_t rows, int64_t columns, int64_t input_step, T* output,
                      int64_t output_step) {
  // The registers are shuffled as integers: no value is computed with.
  using E = std::conditional_t<sizeof(T) == 2, uint16_t,
                               std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;
  constexpr int kSize = kVectorBytes / static_cast<int>(sizeof(E));
  using V = typename VectorOf<E, kSize>::type;
  for (int64_t column = 0; column < columns; column += kSize) {
    const int64_t columns_left = std::min<int64_t>(kSize, columns - column);
    for (int64_t row = 0; row < rows; row += kSize) {
      const int64_t rows_left = std::min<int64_t>(kSize, rows - row);
      if (columns_left == kSize && rows_left == kSize) {
        V square[kSize];
#pragma GCC unroll 32
        for (int i = 0; i < kSize; ++i) {
          memcpy(&square[i], input + (row + i) * input_step + column, sizeof(V));
        }
        transpose<kSize>(square);
#pragma GCC unroll 32
        for (int i = 0; i < kSize; ++i) {
          memcpy(output + (column + i) * output_step + row, &square[i], sizeof(V));
        }
      } else {
        for (int64_t i = 0; i < columns_left; ++i) {
          for (int64_t j = 0; j < rows_left; ++j) {
            output[(column + i) * output_step + row + j] =
                input[(row + j) * input_step + column + i];
          }
        }
      }
    }
  }
}

template <typename T>
void transpose_matrix(const T* input, int64_t rows, int64_t columns, T* output) {
  transpose_matrix(input, rows, columns, columns, output, rows);
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
