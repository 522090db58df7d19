// Transposes matrices that no cache holds, in squares a cache line wide: each line is read and
// written whole.
#include "../transpose.h"

#include "transpose.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

constexpr int64_t kLine = 64;  // bytes

int64_t blocks_of(const Transpose& params) {
  const int64_t side = kLine / params.element_size;
  return (params.columns + side - 1) / side;
}

// A block is a cache line's columns, all rows.
template <typename T>
void transpose_blocks(const Transpose& params, int64_t begin, int64_t end) {
  constexpr int64_t kSide = kLine / static_cast<int64_t>(sizeof(T));
  const int64_t rows = params.rows, columns = params.columns, blocks = blocks_of(params);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t matrix = item / blocks * rows * columns, column = item % blocks * kSide;
    const T* input = static_cast<const T*>(params.input) + matrix + column;
    T* output = static_cast<T*>(params.output) + matrix + column * rows;
    for (int64_t row = 0; row < rows; row += kSide) {
      transpose_matrix(input + row * columns, std::min(kSide, rows - row),
                       std::min(kSide, columns - column), columns, output + row, rows);
    }
  }
}

}  // namespace

Range transpose_range(const Transpose& params) {
  // Below some 32K values the work is shorter than waking a thread.
  const int64_t values = params.rows * kLine / params.element_size;
  return {params.matrices * blocks_of(params), std::max<int64_t>(1, 32768 / values)};
}

void transpose(const Transpose& params, int64_t begin, int64_t end) {
  switch (params.element_size) {
    case 2:
      return transpose_blocks<uint16_t>(params, begin, end);
    case 4:
      return transpose_blocks<uint32_t>(params, begin, end);
    default:
      return transpose_blocks<uint64_t>(params, begin, end);
  }
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
