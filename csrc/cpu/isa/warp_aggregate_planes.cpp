// warp_aggregate of contiguous maps. Where the pixels of a run read is found once for all channels;
// as neighbours mostly move alike, most vectors of them read neighbours.
#include <algorithm>

#include "../warp_aggregate.h"
#include "runs.h"
#include "similarity.h"
#include "taps.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

// Planes of each map that are gone through side by side. Each is a stream of memory, of which a
// Zen 3 follows about 16 well: two maps are read to weigh, and three in use to add.
constexpr int64_t kGroup = 6;

// What a vector of pixels reads of a plane at each corner.
enum class Reads {
  kNeighbours,  // a vector of it
  kSomeInside,  // a vector of it, of which lanes lie outside the map
  kTwoRuns,     // two vectors of it, the second for the lanes after a step of the flow
  kScattered,   // pixels anywhere
};

// The taps of a run's pixels.
template <typename T>
class RunTaps {
  using Bits = std::conditional_t<sizeof(accumulate_t<T>) == 8, int64_t, int32_t>;
  using BitVector = typename VectorOf<Bits, kLanes<T>>::type;

 public:
  using A = accumulate_t<T>;

  // flow is that of the run's image, [2, H, W].
  template <typename F>
  void find(const Size& size, const F* flow, int64_t first, int64_t pixels) {
    for (int64_t p = 0; p < pixels; ++p) {
      const int64_t pixel = first + p;
      const Taps<T> taps(size, flow, pixel / size.width, pixel % size.width);
      for (int k = 0; k < 4; ++k) {
        inside_[k][p] = taps.inside(k) ? Bits{-1} : Bits{0};
        place_[k][p] = taps.inside(k) ? static_cast<int32_t>(taps.pixel(k)) : 0;
        weight[k][p] = taps.weight[k];
      }
    }
    std::fill_n(counts_, 4, 0);
    for_each_pixel<T>(pixels, [&](int64_t p, int64_t count) {
      for (int k = 0; k < 4; ++k) {
        std::fill(inside_[k] + p + count, inside_[k] + p + kLanes<T>, Bits{0});
        std::fill_n(second_[k] + p, kLanes<T>, Bits{0});
        std::fill(place_[k] + p + count, place_[k] + p + kLanes<T>, 0);
      }
      const int reads = static_cast<int>(find_vector(p, size.area()));
      vectors_[reads][counts_[reads]++] = static_cast<int16_t>(p);
    });
  }

  // The taps of the vector at pixel p, which stay in registers over many planes.
  template <Reads kReads>
  class At {
   public:
    static constexpr bool kFull = kReads == Reads::kNeighbours;  // every lane is a pixel

    HPVOD_INLINE At(const RunTaps& taps, int64_t p) {
      for (int k = 0; k < 4; ++k) {
        places_[k] = taps.place_[k] + p;
        place_[k] = places_[k][0];
        second_place_[k] = places_[k][1];
        memcpy(&inside_[k], taps.inside_[k] + p, sizeof(inside_[k]));
        memcpy(&second_[k], taps.second_[k] + p, sizeof(second_[k]));
      }
    }

    // What corner k reads of a plane; outside it is 0.
    HPVOD_INLINE Vector<T> corner(const T* plane, int k) const {
      Vector<T> values = {};
      if constexpr (kReads == Reads::kScattered) {
        values = gather(plane, places_[k]);
      } else {
        values = load(plane + place_[k]);
      }
      if constexpr (kReads == Reads::kNeighbours) return values;
      if constexpr (kReads == Reads::kTwoRuns) {
        values = second_[k] ? load(plane + second_place_[k]) : values;
      }
      // Cleared and not given weight 0: what is read instead may not be finite.
      const BitVector bits = bit_cast<BitVector>(values) & inside_[k];
      return bit_cast<Vector<T>>(bits);
    }

    HPVOD_INLINE Vector<T> warped(const T* plane, const Vector<T> (&weights)[4]) const {
      Vector<T> sum = weights[0] * corner(plane, 0);
#pragma GCC unroll 3
      for (int k = 1; k < 4; ++k) sum = multiply_add(weights[k], corner(plane, k), sum);
      return sum;
    }

    // Asks for the lines that the first pixel's taps read of a plane, those right of it excepted.
    HPVOD_INLINE void fetch(const T* plane) const {
      for (int k = 0; k < 4; k += 2) __builtin_prefetch(plane + place_[k]);
    }

   private:
    const int32_t* places_[4];
    int64_t place_[4];
    int64_t second_place_[4];
    BitVector inside_[4];
    BitVector second_[4];
  };

  // Calls vector(taps, p) for the vectors that read like that.
  template <Reads kReads, typename Function>
  HPVOD_INLINE void for_each(Function vector) const {
    const int reads = static_cast<int>(kReads);
    for (int i = 0; i < counts_[reads]; ++i) {
      const int64_t p = vectors_[reads][i];
      vector(At<kReads>(*this, p), p);
    }
  }

  A weight[4][kRun] = {};  // beyond the last pixel too, something finite

 private:
  // Where the lanes inside the map are neighbours, in one run or two, the first of place_ become
  // the places that the vectors with these runs start from.
  Reads find_vector(int64_t p, int64_t area) {
    if (area < kLanes<T>) return Reads::kScattered;
    bool all_inside = true;
    int runs[4] = {};
    int32_t start[4][2] = {};
    for (int k = 0; k < 4; ++k) {
      for (int i = 0; i < kLanes<T>; ++i) {
        if (!inside_[k][p + i]) {
          all_inside = false;
          continue;
        }
        const int32_t from = place_[k][p + i] - i;
        if (std::find(start[k], start[k] + runs[k], from) != start[k] + runs[k]) continue;
        if (runs[k] == 2 || from < 0 || from + kLanes<T> > area) return Reads::kScattered;
        start[k][runs[k]++] = from;
      }
    }
    const bool one_run = std::all_of(runs, runs + 4, [](int count) { return count < 2; });
    for (int k = 0; k < 4; ++k) {
      for (int i = 0; i < kLanes<T> && !one_run; ++i) {
        second_[k][p + i] = place_[k][p + i] - i == start[k][0] ? Bits{0} : Bits{-1};
      }
      place_[k][p] = start[k][0];
      place_[k][p + 1] = start[k][1];
    }
    return !one_run ? Reads::kTwoRuns : all_inside ? Reads::kNeighbours : Reads::kSomeInside;
  }

  int32_t place_[4][kRun];
  Bits inside_[4][kRun];  // of all bits 1, or 0
  Bits second_[4][kRun];  // of two runs, likewise where it is the second's; outside either
  int counts_[4];
  int16_t vectors_[4][kRun / kLanes<T>];  // the first pixels of those that read alike
};

template <typename T, typename F>
class PlaneAggregator {
 public:
  using A = accumulate_t<T>;

  explicit PlaneAggregator(const WarpAggregate& params)
      : params_(params), size_{params.channels, params.height, params.width}, area_(size_.area()) {}

  // `pixels` adjacent ones of an image, kRun at most.
  void compute(int64_t image, int64_t first, int64_t pixels) {
    image_ = image, first_ = first, pixels_ = pixels;
    const F* flow = static_cast<const F*>(params_.flow) + 2 * image * area_;
    taps_.find(size_, flow, first, pixels);
    updated_ =
        params_.mask ? static_cast<const bool*>(params_.mask) + image * area_ + first : nullptr;
    weigh();
    add();
  }

 private:
  // A map's planes of the image from a channel on; null of no map.
  const T* planes(const void* map, int64_t channels, int64_t channel) const {
    return map ? static_cast<const T*>(map) + (image_ * channels + channel) * area_ : nullptr;
  }

  bool all_updated(int64_t p, int64_t count) const {
    return !updated_ || std::all_of(updated_ + p, updated_ + p + count, [](bool u) { return u; });
  }

  // Maps of the image from a channel on; null of no map.
  struct Planes {
    const T* key;
    const T* current;
    const T* own;
    const T* scale;
    int64_t count;
  };

  // Calls part(taps, p, count, channel, planes) for a group of planes of each vector. Vectors that
  // read alike follow one another: in the order of their pixels, the processor would often guess
  // wrong what the next one does.
  template <typename Function>
  HPVOD_INLINE void for_each_part(int64_t channels, Function part) const {
    for (int64_t c = 0; c < channels; c += kGroup) {
      const int64_t planes = std::min(kGroup, channels - c);
      const auto of_group = [&](const auto& at, int64_t p) __attribute__((always_inline)) {
        part(at, p, at.kFull ? kLanes<T> : std::min<int64_t>(kLanes<T>, pixels_ - p), c, planes);
      };
      taps_.template for_each<Reads::kNeighbours>(of_group);
      taps_.template for_each<Reads::kSomeInside>(of_group);
      taps_.template for_each<Reads::kTwoRuns>(of_group);
      taps_.template for_each<Reads::kScattered>(of_group);
    }
  }

  // Calls plane(j, key, value) for each plane, value being what Eq. 10 selects at the pixels
  // [p, p + count).
  template <typename At, typename Function>
  HPVOD_INLINE void for_each_plane(const At& at, const Planes& planes, int64_t p, int64_t count,
                                   Function plane) const {
    const int64_t area = area_, first = first_ + p;
    const T *key = planes.key, *current = planes.current + first;
    const auto fetch = [&]() __attribute__((always_inline)) {
      at.fetch(key + ahead<At>());
      __builtin_prefetch(current + ahead<At>());
    };
    if (all_updated(p, count)) {
      for (int64_t j = 0; j < planes.count; ++j, key += area, current += area) {
        fetch();
        plane(j, key, load(current, count));
      }
      return;
    }
    Vector<T> weights[4];
    load_weights(taps_.weight, p, weights);
    for (int64_t j = 0; j < planes.count; ++j, key += area, current += area) {
      fetch();
      const T* scale = planes.scale ? planes.scale + j * area + first : nullptr;
      plane(j, key,
            selected(at, load(current, count), planes.own + j * area, scale, weights, p, count));
    }
  }

  // How far ahead of a vector lines are asked for. The full ones come first, in order; the others
  // then find their lines in a cache, and ask for those of the next group.
  template <typename At>
  int64_t ahead() const {
    return At::kFull ? kFetched<T> : kGroup * area_;
  }

  // Eq. 10: what was computed where U is 1, else of `own`, warped and scaled.
  template <typename At>
  HPVOD_INLINE Vector<T> selected(const At& at, Vector<T> computed, const T* own, const T* scale,
                                  const Vector<T> (&weights)[4], int64_t p, int64_t count) const {
    Vector<T> value = at.warped(own, weights);
    if (scale) value *= load(scale, count);
    T rounded[kLanes<T>];  // as in a map that is stored
    store(rounded, value);
    value = load(rounded);
    for (int64_t i = 0; i < count; ++i) {
      if (updated_[p + i]) value[i] = computed[i];
    }
    return value;
  }

  static HPVOD_INLINE void load_weights(const A (&of)[4][kRun], int64_t p,
                                        Vector<T> (&weights)[4]) {
    for (int k = 0; k < 4; ++k) weights[k] = load<A>(of[k] + p);
  }

  void weigh() {
    const int64_t channels = params_.embedding_channels;
    for (auto* sums : {products_, key_squares_, squares_}) std::fill_n(sums, kRun, A{});
    for_each_part(channels, [&](const auto& at, int64_t p, int64_t count, int64_t c,
                                int64_t few) __attribute__((always_inline)) {
      const Planes all{planes(params_.key_embedding, channels, c),
                       planes(params_.embedding, channels, c),
                       planes(params_.own_embedding, channels, c), nullptr, few};
      Vector<T> weights[4], product = {}, key_square = {}, square = {};
      load_weights(taps_.weight, p, weights);
      for_each_plane(at, all, p, count,
                     [&](int64_t, const T* key, Vector<T> value) __attribute__((always_inline)) {
                       const Vector<T> warped = at.warped(key, weights);
                       product = multiply_add(warped, value, product);
                       key_square = multiply_add(warped, warped, key_square);
                       square = multiply_add(value, value, square);
                     });
      store<A>(products_ + p, load<A>(products_ + p) + product);
      store<A>(key_squares_ + p, load<A>(key_squares_ + p) + key_square);
      store<A>(squares_ + p, load<A>(squares_ + p) + square);
    });
    for (int64_t p = 0; p < pixels_; ++p) {
      A weights[2] = {cosine(products_[p], key_squares_[p], squares_[p]),
                      cosine(squares_[p], squares_[p], squares_[p])};
      softmax(weights, 2, 1);
      for (int k = 0; k < 4; ++k) key_weight_[k][p] = weights[0] * taps_.weight[k][p];
      weight_[p] = weights[1];
    }
  }

  void add() {
    const int64_t channels = params_.channels;
    for_each_part(channels, [&](const auto& at, int64_t p, int64_t count, int64_t c,
                                int64_t few) __attribute__((always_inline)) {
      const Planes all{
          planes(params_.key_feature, channels, c), planes(params_.feature, channels, c),
          planes(params_.own_feature, channels, c), planes(params_.scale, channels, c), few};
      const int64_t area = area_;
      T* target = static_cast<T*>(params_.output) + (image_ * channels + c) * area + first_ + p;
      Vector<T> weights[4];
      load_weights(key_weight_, p, weights);
      const Vector<T> weight = load<A>(weight_ + p);
      for_each_plane(at, all, p, count,
                     [&](int64_t j, const T* key, Vector<T> value) __attribute__((always_inline)) {
                       using At = std::decay_t<decltype(at)>;
                       __builtin_prefetch(target + j * area + ahead<At>(), 1);
                       Vector<T> sum = weight * value;
#pragma GCC unroll 4
                       for (int k = 0; k < 4; ++k) {
                         sum = multiply_add(weights[k], at.corner(key, k), sum);
                       }
                       store(target + j * area, sum, count);
                     });
    });
  }

  const WarpAggregate& params_;
  const Size size_;
  const int64_t area_;
  int64_t image_;
  int64_t first_;
  int64_t pixels_;
  const bool* updated_;  // U of the run; null without a mask
  RunTaps<T> taps_;
  A products_[kRun];
  A key_squares_[kRun];
  A squares_[kRun];
  A key_weight_[4][kRun] = {};  // the key frame's, times its taps'
  A weight_[kRun] = {};
};

}  // namespace

Range warp_aggregate_planes_range(const WarpAggregate& params) {
  return range_of_pieces(params.batch, params.height * params.width);
}

void warp_aggregate_planes(const WarpAggregate& params, int64_t begin, int64_t end) {
  dispatch_types(params.dtype, params.flow_dtype, [&](auto t, auto f) {
    PlaneAggregator<decltype(t), decltype(f)> aggregator(params);
    for_each_run(params.height * params.width, begin, end,
                 [&](int64_t image, int64_t first, int64_t pixels) {
                   aggregator.compute(image, first, pixels);
                 });
  });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
