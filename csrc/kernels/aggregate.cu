// Launches the kernel of `aggregate`: checks what its indices assume, and shapes its grid.
#include "aggregate.cuh"
#include "aggregate.h"
#include "launcher.h"

namespace hpvod {
namespace {

static_assert(kMaxAggregateFrames == kFramePointers, "the seam promises what the kernel holds");

const char* check(const Aggregate& params) {
  if (params.frames < 1 || params.frames > kMaxAggregateFrames) return "T must be 1 to 64";
  if (!is_index({params.pixels})) return "N * H * W must not exceed 2^30";
  if (!is_index({params.channels}) || !is_index({params.embedding_channels})) {
    return "neither C nor E must exceed 2^30";
  }
  return nullptr;
}

template <typename T>
const char* launch_typed(const Aggregate& params, Stream stream) {
  FramePointers<T> maps = {};
  auto* output = static_cast<T*>(params.output);
  bool vectors = vectors_fit<T>(params.channels, output);
  for (int64_t t = 0; t < params.frames; ++t) {
    maps.features[t] = static_cast<const T*>(params.features[t]);
    maps.embeddings[t] = static_cast<const T*>(params.embeddings[t]);
    vectors = vectors && vectors_fit<T>(params.channels, maps.features[t]) &&
              vectors_fit<T>(params.embedding_channels, maps.embeddings[t]);
  }
  const AggregateSize size{static_cast<int>(params.frames), static_cast<int>(params.pixels),
                           static_cast<int>(params.channels),
                           static_cast<int>(params.embedding_channels)};
  const dim3 grid(static_cast<unsigned>(divide_up(params.pixels, kAggregatePixels)));
  const dim3 block(32, kAggregatePixels);
  return launch(vectors ? aggregate_frames<T, kVectorWidth<T>> : aggregate_frames<T, 1>, grid,
                block, 0, stream, maps, size, output);
}

}  // namespace

const char* launch_aggregate(const Aggregate& params, Stream stream) {
  if (params.pixels == 0 || params.channels == 0) return nullptr;
  if (const char* message = check(params)) return message;
  return with_type(params.dtype,
                   [&](auto element) { return launch_typed<decltype(element)>(params, stream); });
}

}  // namespace hpvod
