#include "device.h"

__global__ void kernel(cudaTextureObject_t texture, float* output) {
  *output = tex2D<float>(texture, 0, 0);
}
