// A list of pixels, as the kernels that work through one see it.
#pragma once

#include "dtype.h"

namespace hpvod {

constexpr int kPixelThreads = 256;  // in a block: x along the channels of a pixel, y over pixels

// How long a list is only the device knows. A grid is shaped for what a GPU holds, and its
// blocks stride over the list.
struct PixelList {
  const int32_t* pixels;  // [capacity]
  const int32_t* count;   // [1]
  int capacity;

  HPVOD_HOST_DEVICE int size() const { return *count < capacity ? *count : capacity; }
};

}  // namespace hpvod
