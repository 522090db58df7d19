#include <cooperative_groups.h>

#include "device.h"

__global__ void kernel(float*) { cooperative_groups::this_grid().sync(); }
