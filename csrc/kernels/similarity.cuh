// How alike two embeddings are (Eq. 3), as the aggregating kernels compute it.
#pragma once

#include "device.h"
#include "dtype.h"

#ifndef __CUDACC_RTC__
#include <math.h>
#endif

namespace hpvod {
namespace detail {

HPVOD_HOST_DEVICE float square_root(float value) { return sqrtf(value); }
HPVOD_HOST_DEVICE double square_root(double value) { return sqrt(value); }
HPVOD_HOST_DEVICE float exponential(float value) { return expf(value); }
HPVOD_HOST_DEVICE double exponential(double value) { return exp(value); }

}  // namespace detail

// By what an embedding is divided, from the sum of its squares: its norm, but no less than 1e-12,
// so that an embedding of zeros has cosine 0 with every other and with itself.
template <typename Real>
HPVOD_HOST_DEVICE Real guarded_norm(Real square) {
  const Real norm = detail::square_root(square);
  return norm > Real(1e-12) ? norm : Real(1e-12);
}

// The sum over the warp, of the same bits in all its lanes: at every step, two lanes add the same
// two numbers.
template <typename Real>
__device__ __forceinline__ Real warp_sum(Real value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, lanes);
  }
  return value;
}

}  // namespace hpvod
