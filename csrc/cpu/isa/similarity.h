// Eq. 3: how much each frame weighs at a position, and how rows are read ahead of their use.
#pragma once

#include <algorithm>
#include <cmath>

#include "maps.h"

namespace hpvod {
namespace HPVOD_ISA {

// Asks for the cache lines of kVectors vectors, for the second-level cache: what is asked for is a
// pixel ahead, and the first level is full of what is being worked on.
template <typename T, int kVectors>
HPVOD_INLINE void fetch_ahead(const T* source) {
  constexpr int kBytes = kVectors * kLanes<T> * static_cast<int>(sizeof(T)), kLine = 64;
#pragma GCC unroll 16
  for (int byte = 0; byte < kBytes; byte += kLine) {
    __builtin_prefetch(reinterpret_cast<const char*>(source) + byte, 0, 2);
  }
}

// The cosine of two embeddings from their product and their squares. One of zeros has cosine 0
// with every other, itself included.
template <typename A>
A cosine(A product, A square, A other_square) {
  const auto norm = [](A sum) { return std::max(std::sqrt(sum), static_cast<A>(1e-12)); };
  return product / (norm(square) * norm(other_square));
}

// The softmax over `count` values that lie `step` apart, in place.
template <typename A>
void softmax(A* values, int64_t count, int64_t step) {
  A largest = values[0], sum = 0;
  for (int64_t i = 1; i < count; ++i) largest = std::max(largest, values[i * step]);
  for (int64_t i = 0; i < count; ++i)
    sum += values[i * step] = std::exp(values[i * step] - largest);
  for (int64_t i = 0; i < count; ++i) values[i * step] /= sum;
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
