// Atomics: the old value of each goes to the output's rows, the memory itself is row 0.
#include "planted.h"

namespace {

template <typename T>
__global__ void integers(const T* input, T* output) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&output[0], input[i]);
  atomicMin(&output[1], input[i]);
  atomicMax(&output[2], input[i]);
  atomicAnd(&output[3], input[i]);
  atomicOr(&output[4], input[i]);
  if (i == 0) {
    output[5] = atomicExch(&output[6], T{7});
    output[7] = atomicCAS(&output[8], T{0}, T{9});
    output[9] = atomicCAS(&output[8], T{0}, T{1});
  }
}

template <typename T>
__global__ void sums(const T* input, T* output) {
  atomicAdd(output, input[blockIdx.x * blockDim.x + threadIdx.x]);
}

// Every thread takes a ticket; the last block to finish adds up what all have left.
__global__ void last_block(const int* input, int* output) {
  __shared__ bool is_last;
  const unsigned blocks = gridDim.x;
  output[1 + blockIdx.x] = input[blockIdx.x];
  __threadfence();
  if (threadIdx.x == 0) is_last = atomicAdd(&output[0], 1) == static_cast<int>(blocks) - 1;
  __syncthreads();
  if (is_last && threadIdx.x == 0) {
    int total = 0;
    for (unsigned b = 0; b < blocks; ++b) total += output[1 + b];
    output[1 + blocks] = total;
  }
}

using planted::Arguments;
const planted::Register registered[] = {
    {"atomics_int", [](const Arguments& a) { return a.launch(integers<int>); }},
    {"atomics_unsigned", [](const Arguments& a) { return a.launch(integers<unsigned>); }},
    {"atomics_unsigned64",
     [](const Arguments& a) { return a.launch(integers<unsigned long long>); }},
    {"atomic_sum_float", [](const Arguments& a) { return a.launch(sums<float>); }},
    {"atomic_sum_double", [](const Arguments& a) { return a.launch(sums<double>); }},
    {"last_block", [](const Arguments& a) { return a.launch(last_block); }},
};

}  // namespace
