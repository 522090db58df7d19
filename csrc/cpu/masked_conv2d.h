// The CPU kernels of masked_conv2d. Each works on a range of independent items; the caller spreads
// [0, items) over its own threads. A pixel's result depends neither on how it was spread nor on
// which other pixels are listed.
#pragma once

#include "../kernels/masked_conv2d.h"
#include "range.h"

namespace hpvod {

// Weights in the order in which the kernels of this processor read them.
struct PackConv2dWeight {
  DType dtype;
  int64_t out_channels;  // O
  int64_t in_channels;   // I
  int64_t taps;          // kernel_height * kernel_width
  const void* weight;    // [O, I, taps]
  void* packed;          // [packed_conv2d_weight_size] in accumulate_t of the dtype
};

// Elements. `depth`: taps * I.
int64_t packed_conv2d_weight_size(DType dtype, int64_t out_channels, int64_t depth);
void pack_conv2d_weight_cpu(const PackConv2dWeight& params);

Range masked_conv2d_range(const MaskedConv2d& params);
void masked_conv2d_cpu(const MaskedConv2d& params, int64_t begin, int64_t end);

}  // namespace hpvod
