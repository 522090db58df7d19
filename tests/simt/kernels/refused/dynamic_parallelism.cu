#include "device.h"

__global__ void child(float*) {}

__global__ void kernel(float* output) { child<<<1, 1>>>(output); }
