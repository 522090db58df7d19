// Shared memory and barriers.
#include "planted.h"

namespace {

// Each block transposes its 32x32 tile; the tile is static, its column sums dynamic.
template <typename T>
__global__ void transpose(const T* input, T* output) {
  __shared__ T tile[32][33];
  HPVOD_DYNAMIC_SHARED(T, sums);
  const unsigned x = threadIdx.x, y = threadIdx.y;
  tile[y][x] = input[(blockIdx.x * 32 + y) * 32 + x];
  __syncthreads();
  if (y == 0) {
    sums[x] = 0;
    for (int row = 0; row < 32; ++row) sums[x] += tile[row][x];
  }
  __syncthreads();
  output[(blockIdx.x * 32 + y) * 32 + x] = tile[x][y] + sums[y];
}

// Two variables of one declaration: the instantiations must not share one.
template <int kFactor>
__device__ int scaled(int value) {
  __shared__ int kept[64];
  kept[threadIdx.x] = kFactor * value;
  __syncthreads();
  return kept[blockDim.x - 1 - threadIdx.x];
}

__global__ void instantiations(const int* input, int* output) {
  const int once = scaled<1>(input[threadIdx.x]);
  const int tenfold = scaled<10>(input[threadIdx.x]);
  output[threadIdx.x] = once + tenfold;
}

// What a block finds before it has written; then it writes, for the next block to miss.
__global__ void poison(const float*, float* output) {
  __shared__ float fixed;
  HPVOD_DYNAMIC_SHARED(float, dynamic);
  output[2 * blockIdx.x] = fixed;
  output[2 * blockIdx.x + 1] = dynamic[0];
  fixed = 1;
  dynamic[0] = 2;
}

__global__ void alignment(const int*, int* output) {
  __shared__ char odd;
  __shared__ __align__(64) char line[3];
  __align__(32) __shared__ float4 vector;
  odd = 0;
  output[0] = static_cast<int>(reinterpret_cast<uintptr_t>(line) % 64);
  output[1] = static_cast<int>(reinterpret_cast<uintptr_t>(&vector) % 32);
  output[2] = odd;
}

__global__ void reductions(const int* input, int* output) {
  const int value = input[threadIdx.x];
  output[3 * threadIdx.x] = __syncthreads_count(value);
  output[3 * threadIdx.x + 1] = __syncthreads_and(value);
  output[3 * threadIdx.x + 2] = __syncthreads_or(value);
}

// A block-wide sum: as many barriers as the block has bits.
__global__ void tree_sum(const int* input, int* output) {
  HPVOD_DYNAMIC_SHARED(int, partial);
  partial[threadIdx.x] = input[blockIdx.x * blockDim.x + threadIdx.x];
  for (unsigned step = blockDim.x / 2; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) partial[threadIdx.x] += partial[threadIdx.x + step];
  }
  if (threadIdx.x == 0) output[blockIdx.x] = partial[0];
}

// Wrong: nothing keeps a thread from reading its neighbour's place before it is written.
__global__ void missing_barrier(const int* input, int* output) {
  __shared__ int kept[64];
  kept[threadIdx.x] = input[threadIdx.x];
  output[threadIdx.x] = kept[threadIdx.x == 0 ? 0 : threadIdx.x - 1];
}

__global__ void too_much_shared(const float*, float* output) {
  __shared__ float half[8192];
  __shared__ float more[8192];
  half[threadIdx.x] = more[threadIdx.x] = 0;
  output[threadIdx.x] = half[threadIdx.x];
}

using planted::Arguments;
const planted::Register registered[] = {
    {"transpose_float", [](const Arguments& a) { return a.launch(transpose<float>); }},
    {"transpose_double", [](const Arguments& a) { return a.launch(transpose<double>); }},
    {"instantiations", [](const Arguments& a) { return a.launch(instantiations); }},
    {"poison", [](const Arguments& a) { return a.launch(poison); }},
    {"alignment", [](const Arguments& a) { return a.launch(alignment); }},
    {"reductions", [](const Arguments& a) { return a.launch(reductions); }},
    {"tree_sum", [](const Arguments& a) { return a.launch(tree_sum); }},
    {"missing_barrier", [](const Arguments& a) { return a.launch(missing_barrier); }},
    {"too_much_shared", [](const Arguments& a) { return a.launch(too_much_shared); }},
};

}  // namespace
