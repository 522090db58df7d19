// Launches the kernels of `update_plan`: checks what their indices assume, and lays out tiles.
#include "launcher.h"
#include "update_plan.cuh"
#include "update_plan.h"

namespace hpvod {
namespace {

// A tile sums the counts of all before it, so a list has no more of them than one round of blocks
// on the largest GPUs; longer lists have larger tiles.
constexpr int64_t kMaxTiles = 1024;

static_assert(kMaxPlanLists == kMaxPixelSets, "the kernels take as many lists as a plan has");

PlanMembers members_of(PixelSetKind kind) {
  switch (kind) {
    case PixelSetKind::kActive:
      return {true, false, false};
    case PixelSetKind::kHalo:
      return {false, true, false};
    case PixelSetKind::kReached:
      return {true, true, false};
    case PixelSetKind::kInactive:
      return {false, true, true};
  }
  return {};
}

int64_t layer_pixels(const UpdatePlan& params, int l) {
  return params.batch * params.sets[l].height * params.sets[l].width;
}

struct PlanTiles {
  int64_t chunks;  // of kChunkPixels in a tile of any list
  int64_t count;   // of all lists

  explicit PlanTiles(const UpdatePlan& params) : chunks(1), count(0) {
    for (int l = 0; l < params.set_count; ++l) {
      const int64_t needed = divide_up(layer_pixels(params, l), kMaxTiles * kChunkPixels);
      if (needed > chunks) chunks = needed;
    }
    for (int l = 0; l < params.set_count; ++l) count += of_list(params, l);
  }

  // An empty list has a tile as well, which writes its count.
  int64_t of_list(const UpdatePlan& params, int l) const {
    const int64_t tiles = divide_up(layer_pixels(params, l), chunks * kChunkPixels);
    return tiles > 0 ? tiles : 1;
  }
};

const char* check(const UpdatePlan& params) {
  if (!is_index({params.batch, params.height, params.width})) {
    return "N * h * w must not exceed 2^30";
  }
  for (int l = 0; l < params.set_count; ++l) {
    const PixelSet& set = params.sets[l];
    if (!is_index({params.batch, set.height, set.width})) {
      return "N * H * W of a layer must not exceed 2^30";
    }
    if (set.ratio < 1 || set.dilation < 0 || set.dilation > kMaxIndex) {
      return "a list's ratio must be at least 1, its dilation 0 to 2^30";
    }
    if (params.height * params.width == 0 && layer_pixels(params, l) > 0) {
      return "Q is empty, a layer is not";
    }
  }
  return nullptr;
}

PlanLists lists_of(const UpdatePlan& params, const PlanTiles& tiles) {
  PlanLists lists{static_cast<int>(tiles.chunks), {}};
  int tile = 0;
  for (int l = 0; l < params.set_count; ++l) {
    const PixelSet& set = params.sets[l];
    const int end = tile + static_cast<int>(tiles.of_list(params, l));
    lists.list[l] = {members_of(set.kind),
                     set.ratio,
                     set.dilation,
                     set.height,
                     set.width,
                     static_cast<int>(layer_pixels(params, l)),
                     tile,
                     end,
                     set.offset};
    tile = end;
  }
  return lists;
}

template <typename T>
const char* decide(const UpdatePlan& params, Stream stream) {
  // Rounded to T, as torch compares a map with a number.
  const accumulate_t<T> tau = widen(narrow<T>(static_cast<accumulate_t<T>>(params.tau)));
  return launch(update_plan_decide<T>, dim3(static_cast<unsigned>(params.batch)),
                dim3(kDecideThreads), 0, stream, static_cast<const T*>(params.q), params.forced_key,
                tau, params.gamma, static_cast<int>(params.height * params.width), params.mask,
                params.is_key, params.changed);
}

}  // namespace

const char* launch_update_plan(const UpdatePlan& params, Stream stream) {
  if (const char* message = check(params)) return message;
  if (params.batch > 0) {
    if (const char* message = with_type(params.dtype, [&](auto element) {
          return decide<decltype(element)>(params, stream);
        })) {
      return message;
    }
  }
  if (params.set_count == 0) return nullptr;
  const PlanTiles tiles(params);
  const PlanLists lists = lists_of(params, tiles);
  const PlanMask mask{params.mask, static_cast<int>(params.height), static_cast<int>(params.width)};
  auto* tile_counts = static_cast<int*>(params.workspace);
  auto* members = static_cast<uint32_t*>(params.workspace) + tiles.count;
  const dim3 grid(static_cast<unsigned>(tiles.count));
  if (const char* message = launch(update_plan_count, grid, dim3(kPlanThreads), 0, stream, mask,
                                   lists, members, tile_counts)) {
    return message;
  }
  return launch(update_plan_scatter, grid, dim3(kPlanThreads), 0, stream, lists, members,
                tile_counts, params.pixels, params.counts);
}

int64_t update_plan_workspace(const UpdatePlan& params) {
  const PlanTiles tiles(params);
  return tiles.count * (1 + tiles.chunks * kChunkWords) * static_cast<int64_t>(sizeof(int));
}

}  // namespace hpvod
