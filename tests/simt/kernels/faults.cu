// Kernels that are wrong, each in one way that must be reported.
#include "planted.h"

namespace {

// The second half of the block has left.
__global__ void barrier_after_return(const int*, int* output) {
  if (blockIdx.x == 1 && threadIdx.x >= 32) return;
  __syncthreads();  // line early
  output[threadIdx.x] = 1;
}

__global__ void two_barriers(const int*, int* output) {
  if (threadIdx.x == 3 || threadIdx.x == 5) {
    __syncthreads();  // line first
    output[threadIdx.x] = 1;
  } else {
    __syncthreads();  // line second
    output[threadIdx.x] = 2;
  }
}

__global__ void shuffle_after_return(const int* input, int* output) {
  if (threadIdx.x >= 40 && threadIdx.x < 44) return;
  output[threadIdx.x] = __shfl_xor_sync(0xffffffffu, input[threadIdx.x], 1);  // line shuffle
}

// Lanes 16-31 wait for the block, the others for them.
__global__ void ballot_against_barrier(const int*, int* output) {
  if (threadIdx.x < 16) {
    output[threadIdx.x] = static_cast<int>(__ballot_sync(0xffffffffu, 1));  // line ballot
  }
  __syncthreads();  // line after
}

__global__ void mask_without_caller(const int*, int* output) {
  output[threadIdx.x] = __any_sync(0x0000ffffu, 1);  // line any
}

__global__ void shuffle_width(const int* input, int* output) {
  output[threadIdx.x] = __shfl_sync(0xffffffffu, input[threadIdx.x], 0, 12);  // line width
}

__global__ void nothing(const int*, int*) {}

__global__ void nested_launch(const int* input, int* output) {
  hpvod::launch(nothing, dim3(1), dim3(1), 0, nullptr, input, output);
}

// The rest is for AddressSanitizer and its kin. What is read goes to the output, lest
// the compiler leave out the reading.

__global__ void read_past_global(const int* input, int* output) {
  output[threadIdx.x] = input[threadIdx.x + 1];
}

__global__ void write_before_global(const int* input, int* output) {
  *(output + threadIdx.x - 1) = input[threadIdx.x];
}

template <typename T>
__global__ void static_overflow(const T* input, T* output) {
  __shared__ T kept[32];
  kept[threadIdx.x + 1] = input[threadIdx.x];
  output[threadIdx.x] = kept[threadIdx.x];
}

__global__ void dynamic_overflow(const int* input, int* output) {
  HPVOD_DYNAMIC_SHARED(int, kept);
  kept[threadIdx.x + 1] = input[threadIdx.x];
  output[threadIdx.x] = kept[threadIdx.x];
}

__global__ void misaligned(const int* input, int* output) {
  const int4 v = *reinterpret_cast<const int4*>(input + 1);
  output[threadIdx.x] = v.x;
}

__global__ void huge_float_to_int(const float* input, int* output) {
  output[threadIdx.x] = static_cast<int>(input[threadIdx.x] + 1e20f);
}

using planted::Arguments;
const planted::Register registered[] = {
    {"barrier_after_return", [](const Arguments& a) { return a.launch(barrier_after_return); }},
    {"two_barriers", [](const Arguments& a) { return a.launch(two_barriers); }},
    {"shuffle_after_return", [](const Arguments& a) { return a.launch(shuffle_after_return); }},
    {"ballot_against_barrier", [](const Arguments& a) { return a.launch(ballot_against_barrier); }},
    {"mask_without_caller", [](const Arguments& a) { return a.launch(mask_without_caller); }},
    {"shuffle_width", [](const Arguments& a) { return a.launch(shuffle_width); }},
    {"nested_launch", [](const Arguments& a) { return a.launch(nested_launch); }},
    {"read_past_global", [](const Arguments& a) { return a.launch(read_past_global); }},
    {"write_before_global", [](const Arguments& a) { return a.launch(write_before_global); }},
    {"static_overflow", [](const Arguments& a) { return a.launch(static_overflow<int>); }},
    {"dynamic_overflow", [](const Arguments& a) { return a.launch(dynamic_overflow); }},
    {"misaligned", [](const Arguments& a) { return a.launch(misaligned); }},
    {"huge_float_to_int", [](const Arguments& a) { return a.launch(huge_float_to_int); }},
};

}  // namespace
