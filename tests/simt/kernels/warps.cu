// Shuffles and votes.
#include "planted.h"

namespace {

// A row of results a lane, for each width that CUDA knows.
template <typename T>
__global__ void shuffles(const T* input, T* output) {
  const unsigned lane = threadIdx.x;
  T* row = output + lane * 24;
  for (int width = 1; width <= 32; width *= 2) {
    *row++ = __shfl_sync(0xffffffffu, input[lane], 5, width);
    *row++ = __shfl_up_sync(0xffffffffu, input[lane], 3, width);
    *row++ = __shfl_down_sync(0xffffffffu, input[lane], 3, width);
    *row++ = __shfl_xor_sync(0xffffffffu, input[lane], 6, width);
  }
}

// Odd and even lanes vote among themselves.
__global__ void votes(const int* input, int* output) {
  const int value = input[threadIdx.x];
  int* row = output + threadIdx.x * 4;
  const unsigned mask = threadIdx.x % 2 == 0 ? 0x55555555u : 0xaaaaaaaau;
  if (threadIdx.x % 2 == 0) {
    row[0] = static_cast<int>(__ballot_sync(mask, value));
    row[1] = __any_sync(mask, value);
    row[2] = __all_sync(mask, value);
  } else {
    row[0] = static_cast<int>(__ballot_sync(mask, value));
    row[1] = __any_sync(mask, value);
    row[2] = __all_sync(mask, value);
  }
  __syncwarp();
  row[3] = static_cast<int>(__activemask());
}

// The sum over the block, also if its last warp is partial.
__global__ void warp_sum(const float* input, float* output) {
  __shared__ float partial[32];
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned left = blockDim.x - threadIdx.x / 32 * 32;
  float sum = input[i];
  for (unsigned step = 16; step > 0; step /= 2) {
    const float other = __shfl_down_sync(0xffffffffu, sum, step);
    if (threadIdx.x % 32 + step < left) sum += other;
  }
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0;
    for (unsigned w = 0; w < (blockDim.x + 31) / 32; ++w) total += partial[w];
    output[blockIdx.x] = total;
  }
}

// What a lane reads from one that does not exist: all ones, a NaN.
__global__ void missing_lane(const float* input, float* output) {
  output[threadIdx.x] = __shfl_down_sync(0xffffffffu, input[threadIdx.x], 1);
}

// A warp hands values on through shared memory, with __syncwarp between.
__global__ void warp_exchange(const int* input, int* output) {
  __shared__ int kept[64];
  kept[threadIdx.x] = input[threadIdx.x];
  __syncwarp();
  output[threadIdx.x] = kept[threadIdx.x ^ 31];
}

using planted::Arguments;
const planted::Register registered[] = {
    {"shuffles_int", [](const Arguments& a) { return a.launch(shuffles<int>); }},
    {"shuffles_float", [](const Arguments& a) { return a.launch(shuffles<float>); }},
    {"shuffles_double", [](const Arguments& a) { return a.launch(shuffles<double>); }},
    {"shuffles_int64", [](const Arguments& a) { return a.launch(shuffles<long long>); }},
    {"votes", [](const Arguments& a) { return a.launch(votes); }},
    {"warp_sum", [](const Arguments& a) { return a.launch(warp_sum); }},
    {"missing_lane", [](const Arguments& a) { return a.launch(missing_lane); }},
    {"warp_exchange", [](const Arguments& a) { return a.launch(warp_exchange); }},
};

}  // namespace
