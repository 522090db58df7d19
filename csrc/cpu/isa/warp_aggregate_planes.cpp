// warp_aggregate of contiguous maps, in steps. A thread takes channels, and all pixels of them: the
// planes of a map follow one another in memory, and read in that order come nearly as fast as a
// copy's source. If it took a part of the pixels, that part of every plane would lie on pages of
// its own, which takes up to twice as long.
#include <algorithm>

#include "../warp_aggregate.h"
#include "plane_taps.h"
#include "runs.h"
#include "similarity.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

// Planes of each map that are gone through side by side, a tile of them at a time, while the next
// are asked for. Each is a stream of memory, of which a processor follows about 16, and two maps
// are read. Two tiles of all maps stay in a core's second-level cache.
constexpr int64_t kPlanes = 8;
constexpr int64_t kTileBytes = 5 << 10;  // of a plane, at most

// Blocks of channels, which the threads share. They depend on the map alone, and sums over them
// are added in their order.
struct Blocks {
  int64_t channels;  // of the map
  int64_t size;      // channels of a block; the last may have fewer
  int64_t count;     // at least 1

  explicit Blocks(int64_t channels) : channels(channels) {
    constexpr int64_t kMost = 16, kLeastSize = 32;
    const int64_t groups = (channels + kMost * kPlanes - 1) / (kMost * kPlanes);
    size = std::max(kLeastSize, groups * kPlanes);
    count = std::max<int64_t>(1, (channels + size - 1) / size);
  }
};

// Some planes of the maps of a step; null of no map.
template <typename T>
struct Planes {
  const T* key;
  const T* current;
  const T* own;
  const T* scale;
  T* output;
  int64_t count;

  // So many planes, so many values further on in the maps.
  Planes from(int64_t values, int64_t planes) const {
    const auto at = [&](auto* map) { return map ? map + values : nullptr; };
    return {at(key), at(current), at(own), at(scale), at(output), planes};
  }
};

// Asks for the lines of the tile that is next, with each vector of pixels as many as it has in
// kPlanes planes: in the order of memory, and for the second-level cache, for the first is full of
// what is worked on.
template <typename T>
class Fetcher {
 public:
  // planes: from the tile's first pixel on.
  Fetcher(const Planes<T>& planes, int64_t vectors, int64_t area)
      : steps_((vectors + kPlanes - 1) / kPlanes),
        step_(steps_),
        planes_(planes.count),
        skip_(area * static_cast<int64_t>(sizeof(T)) - steps_ * kBytes) {
    // Of the current map, a mask leaves little to be read.
    const T* value = planes.own ? planes.own : planes.current;
    for (const T* map : {planes.key, value, planes.scale, static_cast<const T*>(planes.output)}) {
      if (map) next_[maps_++] = reinterpret_cast<const char*>(map);
    }
  }

  HPVOD_INLINE void fetch() {
    if (planes_ == 0) return;
    for (int map = 0; map < maps_; ++map) {
      const char* next = next_[map] + offset_;
#pragma GCC unroll 8
      for (int64_t byte = 0; byte < kBytes; byte += kLine) __builtin_prefetch(next + byte, 0, 2);
    }
    offset_ += kBytes;
    if (--step_ == 0) --planes_, step_ = steps_, offset_ += skip_;
  }

 private:
  static constexpr int64_t kLine = 64;
  static constexpr int64_t kBytes = kPlanes * kLanes<T> * sizeof(T);  // with a vector, of a map

  const int64_t steps_;  // vectors with which a plane is asked for
  int64_t step_;         // those that are left of it
  int64_t planes_;       // that are left
  const int64_t skip_;   // from a plane's end to the start of the next
  int64_t offset_ = 0;
  const char* next_[4];
  int maps_ = 0;
};

template <typename T>
class PlaneAggregator {
 public:
  using A = accumulate_t<T>;

  PlaneAggregator(const WarpAggregate& params, char* workspace)
      : params_(params),
        size_{params.channels, params.height, params.width},
        area_(size_.area()),
        pixels_(PlaneTaps<T>::vectors(area_) * kLanes<T>),
        embedding_blocks_(params.embedding_channels),
        feature_blocks_(params.channels),
        workspace_(workspace) {}

  int64_t workspace_bytes() const { return params_.batch * image_bytes(); }
  int64_t embedding_blocks() const { return params_.batch * embedding_blocks_.count; }
  int64_t feature_blocks() const { return params_.batch * feature_blocks_.count; }

  // Pieces of the images.
  template <typename F>
  void find_taps(const F* flow, int64_t begin, int64_t end) const {
    for_each_run(area_, begin, end, [&](int64_t image, int64_t first, int64_t pixels) {
      taps(image).find(flow + 2 * image * area_, first, first + pixels);
    });
  }

  // Blocks of the embeddings' channels: the sums that Eq. 3 is made of.
  void compare(int64_t begin, int64_t end) const {
    const Planes<T> maps =
        whole(params_.key_embedding, params_.embedding, params_.own_embedding, nullptr, nullptr);
    for_each_group(
        embedding_blocks_, maps, begin, end,
        [&](const Group& group, auto for_each) __attribute__((always_inline)) {
          A *products = sums(group.image, group.block), *key_squares = products + pixels_,
            *squares = key_squares + pixels_;
          if (group.opens_block) std::fill_n(products, 3 * pixels_, A{});
          for_each([&](const auto& at, int64_t p, int64_t count) __attribute__((always_inline)) {
            Vector<T> product = {}, key_square = {}, square = {};
            for_each_plane(group, at, p, count,
                           [&](int64_t, Vector<T> key, Vector<T> value)
                               __attribute__((always_inline)) {
                                 product = multiply_add(key, value, product);
                                 key_square = multiply_add(key, key, key_square);
                                 square = multiply_add(value, value, square);
                               });
            store<A>(products + p, load<A>(products + p) + product);
            store<A>(key_squares + p, load<A>(key_squares + p) + key_square);
            store<A>(squares + p, load<A>(squares + p) + square);
          });
        });
  }

  // Pieces of the images: what comes of the sums (Eq. 3).
  void weigh(int64_t begin, int64_t end) const {
    for_each_run(area_, begin, end, [&](int64_t image, int64_t first, int64_t pixels) {
      A* total = sums(image, 0) + first;
      for (int64_t block = 1; block < embedding_blocks_.count; ++block) {
        const A* sum = sums(image, block) + first;
        for (int64_t i = 0; i < 3 * pixels_; i += pixels_) {
          for (int64_t p = 0; p < pixels; ++p) total[i + p] += sum[i + p];
        }
      }
      const A *products = total, *key_squares = total + pixels_, *squares = total + 2 * pixels_;
      A *key_weights = weights(image) + first, *current_weights = key_weights + pixels_;
      for (int64_t p = 0; p < pixels; ++p) {
        A pair[2] = {cosine(products[p], key_squares[p], squares[p]),
                     cosine(squares[p], squares[p], squares[p])};
        softmax(pair, 2, 1);
        key_weights[p] = pair[0], current_weights[p] = pair[1];
      }
    });
  }

  // Blocks of the features' channels (Eq. 7 and 11).
  void add(int64_t begin, int64_t end) const {
    const Planes<T> maps = whole(params_.key_feature, params_.feature, params_.own_feature,
                                 params_.scale, params_.output);
    for_each_group(
        feature_blocks_, maps, begin, end,
        [&](const Group& group, auto for_each) __attribute__((always_inline)) {
          const A *key_weights = weights(group.image), *current_weights = key_weights + pixels_;
          const int64_t area = area_;
          for_each([&](const auto& at, int64_t p, int64_t count) __attribute__((always_inline)) {
            const Vector<T> key_weight = load<A>(key_weights + p),
                            current_weight = load<A>(current_weights + p);
            T* target = group.planes.output + p;
            for_each_plane(
                group, at, p, count,
                [&](int64_t j, Vector<T> key, Vector<T> value) __attribute__((always_inline)) {
                  store(target + j * area, multiply_add(key_weight, key, current_weight * value),
                        count);
                });
          });
        });
  }

 private:
  struct Group {
    int64_t image;
    int64_t block;
    bool opens_block;
    Planes<T> planes;
    const bool* updated;  // U of the image; null without a mask
  };

  // The workspace of an image: its taps, its weights, and the sums of its blocks.
  int64_t image_bytes() const {
    const int64_t values = (2 + 3 * embedding_blocks_.count) * pixels_;
    return PlaneTaps<T>::bytes(area_) + values * static_cast<int64_t>(sizeof(A));
  }
  PlaneTaps<T> taps(int64_t image) const { return {size_, workspace_ + image * image_bytes()}; }
  // [2, pixels]: the key frame's, the current one's.
  A* weights(int64_t image) const {
    return reinterpret_cast<A*>(workspace_ + image * image_bytes() + PlaneTaps<T>::bytes(area_));
  }
  // [3, pixels]: of the products, the key embedding's squares, the current one's.
  A* sums(int64_t image, int64_t block) const { return weights(image) + (2 + 3 * block) * pixels_; }

  static Planes<T> whole(const void* key, const void* current, const void* own, const void* scale,
                         void* output) {
    const auto map = [](const void* values) { return static_cast<const T*>(values); };
    return {map(key), map(current), map(own), map(scale), static_cast<T*>(output), 0};
  }

  // Calls step(group, for_each) for the groups of planes of the blocks [begin, end) of all images,
  // in which for_each(vector) calls vector(at, p, count) for every vector of pixels.
  template <typename Step>
  HPVOD_INLINE void for_each_group(const Blocks& blocks, const Planes<T>& maps, int64_t begin,
                                   int64_t end, Step step) const {
    while (begin < end) {
      const int64_t image = begin / blocks.count, first = begin % blocks.count;
      const int64_t blocks_here = std::min(end - begin, blocks.count - first);
      const int64_t stop = std::min(blocks.channels, (first + blocks_here) * blocks.size);
      const auto planes = [&](int64_t c) {
        return maps.from((image * blocks.channels + c) * area_, std::min(kPlanes, stop - c));
      };
      PlaneTaps<T> taps_here = taps(image);
      taps_here.sort(tile_vectors());
      const bool* updated =
          params_.mask ? static_cast<const bool*>(params_.mask) + image * area_ : nullptr;
      int64_t c = first * blocks.size;
      do {  // once even where there are no channels
        const int64_t block = c / blocks.size;
        const Group group{image, block, c == block * blocks.size, planes(c), updated};
        c += group.planes.count;
        const Planes<T> next = planes(c);
        step(group, [&](auto vector) __attribute__((always_inline)) {
          for_each_vector(taps_here, group.planes, next, vector);
        });
      } while (c < stop);
      begin += blocks_here;
    }
  }

  // Of a tile: as many as fit, in tiles of one size, and a multiple of kPlanes for the Fetcher.
  int64_t tile_vectors() const {
    const int64_t vectors = pixels_ / kLanes<T>;
    const int64_t tiles = pixels_ * static_cast<int64_t>(sizeof(T)) / kTileBytes + 1;
    return ((vectors + tiles - 1) / tiles + kPlanes - 1) / kPlanes * kPlanes;
  }

  // Calls vector(at, p, count) for the vectors of pixels tile by tile, and asks meanwhile for the
  // tile after each: of the same planes, and in the end of the next.
  template <typename Function>
  HPVOD_INLINE void for_each_vector(const PlaneTaps<T>& taps, const Planes<T>& planes,
                                    const Planes<T>& next, Function vector) const {
    const int64_t vectors = pixels_ / kLanes<T>, tile = tile_vectors();
    for (int64_t first = 0; first < vectors; first += tile) {
      const int64_t after = first + tile < vectors ? first + tile : 0;
      const Planes<T>& fetched = after > 0 ? planes : next;
      Fetcher<T> fetcher(fetched.from(after * kLanes<T>, fetched.count),
                         std::min(tile, vectors - after), area_);
      taps.for_each_vector(first / tile, [&](const auto& at, int64_t p, int64_t count)
                                             __attribute__((always_inline)) {
                                               fetcher.fetch();
                                               vector(at, p, count);
                                             });
    }
  }

  // Calls plane(j, key, value) for each plane of a group: key is warped, and value is what Eq. 10
  // selects, at the pixels [p, p + count).
  template <typename At, typename Function>
  HPVOD_INLINE void for_each_plane(const Group& group, const At& at, int64_t p, int64_t count,
                                   Function plane) const {
    const int64_t area = area_;
    auto [key, current, own, scale, output, planes] = group.planes;
    current += p;
    const bool* updated = group.updated ? group.updated + p : nullptr;
    const int64_t computed = updated ? std::count(updated, updated + count, true) : count;
    if (computed == count) {
      for (int64_t j = 0; j < planes; ++j, key += area, current += area) {
        const Vector<T> value = load(current, count);
        plane(j, at.warped(key), value);
      }
      return;
    }
    Bits<T> lanes[kLanes<T>] = {};
    for (int64_t i = 0; i < count; ++i) lanes[i] = updated[i] ? -1 : 0;
    const auto from_current = bit_cast<BitVector<T>>(lanes);
    for (int64_t j = 0; j < planes; ++j, key += area, current += area, own += area) {
      Vector<T> value = at.warped(own);
      if (scale) value *= load(scale + j * area + p, count);
      T rounded[kLanes<T>];  // as in a map that is stored
      store(rounded, value);
      value = load(rounded);
      if (computed > 0) value = from_current ? load(current, count) : value;
      plane(j, at.warped(key), value);
    }
  }

  const WarpAggregate& params_;
  const Size size_;
  const int64_t area_;
  const int64_t pixels_;  // of whole vectors
  const Blocks embedding_blocks_;
  const Blocks feature_blocks_;
  char* const workspace_;
};

}  // namespace

int64_t warp_aggregate_planes_workspace(const WarpAggregate& params) {
  return dispatch_type(params.dtype, [&](auto t) {
    return PlaneAggregator<decltype(t)>(params, nullptr).workspace_bytes();
  });
}

Range warp_aggregate_planes_range(const WarpAggregate& params, PlanesStep step) {
  return dispatch_type(params.dtype, [&](auto t) -> Range {
    const PlaneAggregator<decltype(t)> aggregator(params, nullptr);
    if (step == PlanesStep::kCompare) return {aggregator.embedding_blocks(), 1};
    if (step == PlanesStep::kAdd) return {aggregator.feature_blocks(), 1};
    return range_of_pieces(params.batch, params.height * params.width);
  });
}

void warp_aggregate_planes(const WarpAggregate& params, char* workspace, PlanesStep step,
                           int64_t begin, int64_t end) {
  dispatch_types(params.dtype, params.flow_dtype, [&](auto t, auto f) {
    const PlaneAggregator<decltype(t)> aggregator(params, workspace);
    switch (step) {
      case PlanesStep::kFindTaps:
        return aggregator.find_taps(static_cast<const decltype(f)*>(params.flow), begin, end);
      case PlanesStep::kCompare:
        return aggregator.compare(begin, end);
      case PlanesStep::kWeigh:
        return aggregator.weigh(begin, end);
      case PlanesStep::kAdd:
        return aggregator.add(begin, end);
    }
  });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
