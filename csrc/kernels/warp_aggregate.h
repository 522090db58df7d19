// Recursive aggregation with the key frame along the flow (Eq. 7 and 11). See
// hpvod_ops/ops/warp_aggregate.py for what it computes; this is the seam between the kernels and
// their callers.
#pragma once

#include "dtype.h"
#include "stream.h"

namespace hpvod {

// Every map is dense in channels_last (the CPU has kernels for contiguous ones too), the flow
// contiguous.
struct WarpAggregate {
  int64_t batch;               // N
  int64_t channels;            // C
  int64_t embedding_channels;  // E
  int64_t height;              // H
  int64_t width;               // W
  DType dtype;                 // of the maps
  DType flow_dtype;            // dtype, or kFloat32
  const void* key_feature;     // [N, H, W, C]
  const void* key_embedding;   // [N, H, W, E]
  const void* feature;         // [N, H, W, C]
  const void* embedding;       // [N, H, W, E]
  const void* flow;            // [N, 2, H, W], (dx, dy) in pixels of the maps
  const void* mask;            // [N, H, W] bool, or null: 1 everywhere
  const void* own_feature;     // [N, H, W, C], warped where the mask is 0; null without a mask
  const void* own_embedding;   // [N, H, W, E], likewise
  const void* scale;           // [N, H, W, C] on the warped own_feature, or null
  void* output;                // [N, H, W, C]
};

// CUDA (warp_aggregate.cu). A launch returns null, or CUDA's words for what went wrong.
const char* launch_warp_aggregate(const WarpAggregate& params, Stream stream);

}  // namespace hpvod
