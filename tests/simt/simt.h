// Runs CUDA C++ on the CPU, for tests: csrc/kernels' sources, compiled by the host compiler
// behind this header, one block after the other, each thread of a block a fiber.
//
// It is strict where a GPU is lenient. Shared memory starts poisoned; a barrier that not all
// threads of the block reach, or a warp function whose mask names a lane that does not
// arrive, is an error which names kernel, block, threads and place; AddressSanitizer sees the
// exact bounds of every buffer; threads run in an order that HPVOD_SIMT_ORDER can turn round.
// Lanes beyond the end of the last, partial warp may be named in a mask, as on a GPU.
// What it cannot run, it refuses by name: see refuse.h. It knows nothing of memory order
// and of blocks that wait for each other.
#pragma once

#include "simt/atomics.h"
#include "simt/block.h"
#include "simt/intrinsics.h"
#include "simt/launch.h"
#include "simt/types.h"

#include "simt/refuse.h"
