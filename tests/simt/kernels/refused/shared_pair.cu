#include "device.h"

__global__ void kernel(float*) {
  __shared__ float first[4], second[4];
  first[0] = second[0] = 0;
}
