// Launches the kernel of `warp_aggregate`: checks what its indices assume, and shapes its grid.
#include "launcher.h"
#include "warp_aggregate.cuh"
#include "warp_aggregate.h"

namespace hpvod {
namespace {

const char* check(const WarpAggregate& params) {
  if (!is_index({params.batch, params.height, params.width})) {
    return "N * H * W must not exceed 2^30";
  }
  if (params.height > kMaxSide || params.width > kMaxSide) return "a side must not exceed 2^29";
  if (!is_index({params.channels}) || !is_index({params.embedding_channels})) {
    return "neither C nor E must exceed 2^30";
  }
  return nullptr;
}

template <typename T>
const char* launch_typed(const WarpAggregate& params, Stream stream) {
  const auto typed = [](const void* map) { return static_cast<const T*>(map); };
  const WarpAggregateMaps<T> maps{typed(params.key_feature), typed(params.key_embedding),
                                  typed(params.feature),     typed(params.embedding),
                                  typed(params.own_feature), typed(params.own_embedding),
                                  typed(params.scale)};
  auto* output = static_cast<T*>(params.output);
  const Flow<T> flow{params.flow, params.flow_dtype == DType::kFloat32};
  const WarpSize size{static_cast<int>(params.batch), static_cast<int>(params.channels),
                      static_cast<int>(params.height), static_cast<int>(params.width), false};
  const bool vectors = vectors_fit<T>(params.channels, maps.key_feature, maps.feature,
                                      maps.own_feature, maps.scale, output) &&
                       vectors_fit<T>(params.embedding_channels, maps.key_embedding, maps.embedding,
                                      maps.own_embedding);
  const dim3 grid(
      static_cast<unsigned>(params.batch * divide_up(params.height, kWarpAggregateSide) *
                            divide_up(params.width, kWarpAggregateSide)));
  const dim3 block(32, kWarpAggregateSide, kWarpAggregateSide);
  return launch(vectors ? warp_and_aggregate<T, kVectorWidth<T>> : warp_and_aggregate<T, 1>, grid,
                block, 0, stream, maps, flow, static_cast<const bool*>(params.mask), output, size,
                static_cast<int>(params.embedding_channels));
}

}  // namespace

const char* launch_warp_aggregate(const WarpAggregate& params, Stream stream) {
  if (params.batch == 0 || params.height == 0 || params.width == 0) return nullptr;
  if (params.channels == 0) return nullptr;
  if (const char* message = check(params)) return message;
  return with_type(params.dtype,
                   [&](auto element) { return launch_typed<decltype(element)>(params, stream); });
}

}  // namespace hpvod
