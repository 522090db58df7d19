// What cannot run here is named when it is met. Included last: the headers above use `asm`.
// simt_build.py refuses `<<<`, which no macro can be named after.
#pragma once

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
