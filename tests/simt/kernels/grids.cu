// Grids, blocks, built-in types and the numbers of threads.
#include "planted.h"

namespace {

// One row a thread: threadIdx, blockIdx.
__global__ void coordinates(const int*, int* output) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  int* row = output + (block * threads + thread) * 6;
  row[0] = threadIdx.x;
  row[1] = threadIdx.y;
  row[2] = threadIdx.z;
  row[3] = blockIdx.x;
  row[4] = blockIdx.y;
  row[5] = blockIdx.z;
}

// Threads past the end return at once; the others go on to use their warp.
__global__ void early_return(const int* input, int* output) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= input[0]) return;
  const unsigned together = __activemask();
  output[i] = __popc(together) + 100 * __shfl_sync(together, i, 0);
}

__global__ void __launch_bounds__(64, 2)
    vectors(const float4* __restrict__ input, float4* __restrict__ output) {
  const float4 v = __ldg(input + threadIdx.x);
  const float2 low = make_float2(v.x, v.y);
  const int2 pair = make_int2(1, 2);
  const uint2 unsigned_pair = make_uint2(3u, 4u);
  const int4 four = make_int4(1, 2, 3, 4);
  const uint4 unsigned_four = make_uint4(5u, 6u, 7u, 8u);
  output[threadIdx.x] = make_float4(min(low.x, low.y), max(v.z, v.w),
                                    static_cast<float>(max(pair.x, pair.y) + four.w + warpSize),
                                    static_cast<float>(unsigned_pair.y + unsigned_four.w));
}

// NaN, infinities and numbers that no int holds: as the device converts and compares them.
__global__ void conversions(const float* input, int* output) {
  const float v = input[threadIdx.x];
  int* row = output + threadIdx.x * 5;
  row[0] = __float2int_rd(v);
  row[1] = __float2int_rn(v);
  row[2] = __float2int_rz(v);
  row[3] = __float_as_int(min(v, 1.0f));
  row[4] = __float_as_int(__uint_as_float(__float_as_uint(max(v, 1.0f))));
}

__global__ void bits(const unsigned* input, int* output) {
  const unsigned v = input[threadIdx.x];
  const unsigned long long wide = static_cast<unsigned long long>(v) << 20;
  int* row = output + threadIdx.x * 6;
  row[0] = __popc(v);
  row[1] = __ffs(static_cast<int>(v));
  row[2] = __clz(static_cast<int>(v));
  row[3] = __popcll(wide);
  row[4] = __ffsll(static_cast<long long>(wide));
  row[5] = __clzll(static_cast<long long>(wide));
}

using planted::Arguments;
const planted::Register registered[] = {
    {"coordinates", [](const Arguments& a) { return a.launch(coordinates); }},
    {"early_return", [](const Arguments& a) { return a.launch(early_return); }},
    {"vectors", [](const Arguments& a) { return a.launch(vectors); }},
    {"conversions", [](const Arguments& a) { return a.launch(conversions); }},
    {"bits", [](const Arguments& a) { return a.launch(bits); }},
};

}  // namespace
