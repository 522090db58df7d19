// Matrices transposed on the CPU: maps from one layout to the other. It works on a range of
// independent items; the caller spreads [0, items) over its own threads.
#pragma once

#include "range.h"

namespace hpvod {

struct Transpose {
  int64_t matrices;
  int64_t rows;
  int64_t columns;
  int64_t element_size;  // 2, 4 or 8
  const void* input;     // [matrices, rows, columns]
  void* output;          // [matrices, columns, rows]
};

Range transpose_range(const Transpose& params);
void transpose_cpu(const Transpose& params, int64_t begin, int64_t end);

}  // namespace hpvod
