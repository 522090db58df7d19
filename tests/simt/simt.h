// Runs CUDA C++ on the CPU, for tests: csrc/kernels' sources, compiled by the host compiler
// behind this header, one block after the other, each thread of a block a fiber.
//
// It is strict where a GPU is lenient. Shared memory starts poisoned; a barrier that not all
// threads of the block reach, or a warp function whose mask names a lane that does not
// arrive, is an error which names kernel, block, threads and place; AddressSanitizer sees the
// exact bounds of every buffer; threads run in an order that HPVOD_SIMT_ORDER can turn round.
// Lanes beyond the end of the last, partial warp may be named in a mask, as on a GPU.
// It knows nothing of memory order, and blocks that wait for each other wait for ever.
#pragma once

#include "simt/atomics.h"
#include "simt/block.h"
#include "simt/device.h"
#include "simt/intrinsics.h"
#include "simt/launch.h"
#include "simt/types.h"

// What cannot run here is named when it is met (`<<<`, which no macro can be named after, by
// simt_build.py). These come last, for the headers above use `asm`.

#define SIMT_PRAGMA(text) _Pragma(#text)
#define SIMT_REFUSE_PTX \
  SIMT_PRAGMA(GCC error "simt cannot run inline PTX: keep it behind #ifdef __CUDA_ARCH__")
#define SIMT_REFUSE_TEXTURE SIMT_PRAGMA(GCC error "simt cannot run textures and surfaces")
#define SIMT_REFUSE_CLUSTER SIMT_PRAGMA(GCC error "simt cannot run thread-block clusters")
#define SIMT_REFUSE_GROUPS SIMT_PRAGMA(GCC error "simt cannot run cooperative groups")

#define asm SIMT_REFUSE_PTX asm
#define cudaTextureObject_t SIMT_REFUSE_TEXTURE int
#define cudaSurfaceObject_t SIMT_REFUSE_TEXTURE int
#define tex1Dfetch SIMT_REFUSE_TEXTURE tex1Dfetch
#define tex2D SIMT_REFUSE_TEXTURE tex2D
#define __cluster_dims__(...) SIMT_REFUSE_CLUSTER
#define cudaLaunchKernelEx SIMT_REFUSE_CLUSTER cudaLaunchKernelEx
#define cooperative_groups SIMT_REFUSE_GROUPS cooperative_groups
