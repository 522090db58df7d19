#include "device.h"

__global__ void kernel(float* output) { asm volatile("add.f32 %0, %0, %0;" : "+f"(*output)); }
