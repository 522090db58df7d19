// What a .cu file needs from its compiler: nvcc, NVRTC (device code only), or, in
// the tests, the host compiler behind tests/simt/simt.h.
#pragma once

#ifdef HPVOD_SIMT
#include "simt.h"
#elif !defined(__CUDACC_RTC__)
#include <cuda_runtime.h>

namespace hpvod {

// tests/simt gives its own `launch` with this signature; the launchers know no <<<>>>.
template <typename... Params, typename... Args>
const char* launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, Args... args) {
  // clang-format off: to it, a header is C++, and <<< is not a token of that.
  kernel<<<grid, block, shared_bytes, stream>>>(args...);
  // clang-format on
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace hpvod
#endif

// Dynamic shared memory of the block, as an array of `type` named `name`.
#ifndef HPVOD_DYNAMIC_SHARED
#define HPVOD_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif
