// What launchers share: element types by name, limits of indices, shapes of grids.
#pragma once

#include <initializer_list>

#include "device.h"
#include "pixel_list.cuh"
#include "vector.h"

namespace hpvod {

// Kernels hold positions (a pixel of one of the batch's maps) and channels in an int, and need
// room above the last for a stride.
constexpr int64_t kMaxIndex = int64_t{1} << 30;

inline int64_t divide_up(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

// Whether the product of these sizes is an index. By division: the product itself may be too
// large for 64 bits.
inline bool is_index(std::initializer_list<int64_t> sizes) {
  int64_t room = kMaxIndex;
  for (const int64_t size : sizes) {
    if (size > room) return false;
    if (size > 0) room /= size;
  }
  return true;
}

// Calls function(element) with an element of the type that `dtype` names.
template <typename Function>
const char* with_type(DType dtype, Function function) {
  switch (dtype) {
    case DType::kFloat32:
      return function(float{});
    case DType::kFloat16:
      return function(Half{});
    case DType::kBFloat16:
      return function(BFloat16{});
    case DType::kFloat64:
      return function(double{});
  }
  return "unknown dtype";
}

// Whether 16-byte accesses reach every channel of every one of these maps in channels_last.
template <typename T, typename... Maps>
bool vectors_fit(int64_t channels, Maps... maps) {
  uintptr_t misaligned = 0;
  for (const void* map : {static_cast<const void*>(maps)...}) {
    misaligned |= reinterpret_cast<uintptr_t>(map) % 16;
  }
  return misaligned == 0 && channels % kVectorWidth<T> == 0;
}

struct PixelGrid {
  dim3 grid;
  dim3 block;
};

// For kernels with a thread a vector of channels of a listed pixel. A thread takes a second
// vector only where a block is too small for all of a pixel's: lists are often short. As many
// blocks as fill the largest GPUs; those that find no pixel leave at once.
inline PixelGrid pixel_grid(int64_t capacity, int64_t vectors) {
  constexpr int64_t kEnoughBlocks = 2048;
  unsigned lanes = 1;
  while (lanes < kPixelThreads && lanes < vectors) lanes *= 2;
  const unsigned pixels = kPixelThreads / lanes;
  const int64_t blocks = divide_up(capacity, pixels);
  return {dim3(static_cast<unsigned>(blocks < kEnoughBlocks ? blocks : kEnoughBlocks)),
          dim3(lanes, pixels)};
}

}  // namespace hpvod
