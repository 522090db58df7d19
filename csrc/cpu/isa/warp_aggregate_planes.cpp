// warp_aggregate of contiguous maps. Where the pixels of a run read is found once for all channels;
// as neighbours mostly move alike, most vectors of them read neighbours.
#include <algorithm>
#include <memory>

#include "../warp_aggregate.h"
#include "runs.h"
#include "similarity.h"
#include "taps.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

constexpr int kSumVectors = 2;  // as the loop over rows holds

// The taps of a run's pixels.
template <typename T>
class RunTaps {
 public:
  using A = accumulate_t<T>;

  // flow is that of the run's image, [2, H, W].
  template <typename F>
  void find(const Size& size, const F* flow, int64_t first, int64_t pixels) {
    for (int64_t p = 0; p < pixels; ++p) {
      const int64_t pixel = first + p;
      const Taps<T> taps(size, flow, pixel / size.width, pixel % size.width);
      for (int k = 0; k < 4; ++k) {
        place_[k][p] = taps.inside(k) ? taps.pixel(k) : kOutside;
        weight[k][p] = taps.weight[k];
      }
    }
    for_each_pixel<T>(pixels, [&](int64_t p, int64_t count) {
      bool adjacent = count == kLanes<T>;
      for (int k = 0; k < 4; ++k) {
        for (int64_t i = 0; i < count; ++i) {
          adjacent &= place_[k][p] != kOutside && place_[k][p + i] == place_[k][p] + i;
        }
      }
      adjacent_[p / kLanes<T>] = adjacent;
    });
  }

  // Calls corner(k, values) with what each of the corners of the pixels [p, p + count) reads of a
  // plane; outside it is 0.
  template <typename Corner>
  HPVOD_INLINE void read(const T* plane, int64_t p, int64_t count, Corner corner) const {
    if (adjacent_[p / kLanes<T>]) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) corner(k, load(plane + place_[k][p]));
    } else {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        Vector<T> values = {};
        for (int64_t i = 0; i < count; ++i) {
          const int64_t place = place_[k][p + i];
          if (place != kOutside) values[i] = widen(plane[place]);
        }
        corner(k, values);
      }
    }
  }

  HPVOD_INLINE Vector<T> warped(const T* plane, int64_t p, int64_t count) const {
    Vector<T> sum = {};
    read(plane, p, count, [&](int k, Vector<T> values) __attribute__((always_inline)) {
      const Vector<T> weights = load<A>(weight[k] + p);
      sum = k == 0 ? weights * values : multiply_add(weights, values, sum);
    });
    return sum;
  }

  A weight[4][kRun] = {};  // beyond the last pixel too, something finite

 private:
  static constexpr int64_t kOutside = -1;

  int64_t place_[4][kRun];
  bool adjacent_[kRun / kLanes<T>];
};

template <typename T, typename F>
class PlaneAggregator {
 public:
  using A = accumulate_t<T>;

  explicit PlaneAggregator(const WarpAggregate& params)
      : params_(params), size_{params.channels, params.height, params.width} {}

  // `pixels` adjacent ones of an image, kRun at most.
  void compute(int64_t image, int64_t first, int64_t pixels) {
    image_ = image, first_ = first, pixels_ = pixels;
    const F* flow = static_cast<const F*>(params_.flow) + 2 * image * size_.area();
    taps_.find(size_, flow, first, pixels);
    updated_ = params_.mask ? static_cast<const bool*>(params_.mask) + image * size_.area() + first
                            : nullptr;
    all_updated_ = !updated_ || std::all_of(updated_, updated_ + pixels, [](bool u) { return u; });
    weigh();
    add();
  }

 private:
  const T* plane(const void* map, int64_t channels, int64_t channel) const {
    return static_cast<const T*>(map) + (image_ * channels + channel) * size_.area();
  }

  // Asks for what the run will read of a later plane.
  void fetch(const void* key, const void* current, int64_t channels, int64_t channel) const {
    const int64_t later = std::min(channels - 1, channel + kPlanesAhead);
    fetch_run(plane(key, channels, later) + first_);
    fetch_run(plane(current, channels, later) + first_);
  }

  // The run of the selected map (Eq. 10): of `map` where U is 1, else of `own`, warped and scaled.
  const T* selected(const void* map, const void* own, const void* scale, int64_t channels,
                    int64_t channel) {
    const T* updated = plane(map, channels, channel) + first_;
    if (all_updated_) return updated;
    const T* source = plane(own, channels, channel);
    const T* factor = scale ? plane(scale, channels, channel) + first_ : nullptr;
    for_each_pixel<T>(pixels_, [&](int64_t p, int64_t count) {
      Vector<T> value = taps_.warped(source, p, count);
      if (factor) value *= load(factor + p, count);
      store(selected_ + p, value, count);
    });
    for (int64_t p = 0; p < pixels_; ++p) {
      if (updated_[p]) selected_[p] = updated[p];
    }
    return selected_;
  }

  void weigh() {
    const int64_t channels = params_.embedding_channels;
    for (auto* sums : {&products_, &key_squares_, &squares_}) sums->clear();
    for (int64_t c = 0; c < channels; ++c) {
      fetch(params_.key_embedding, params_.embedding, channels, c);
      const T* key = plane(params_.key_embedding, channels, c);
      const T* current = selected(params_.embedding, params_.own_embedding, nullptr, channels, c);
      A* products = products_.of_channel(c, channels);
      A* key_squares = key_squares_.of_channel(c, channels);
      A* squares = squares_.of_channel(c, channels);
      for_each_pixel<T>(pixels_, [&](int64_t p, int64_t count) {
        const Vector<T> warped = taps_.warped(key, p, count), value = load(current + p, count);
        const auto add = [&](A* sums, Vector<T> a, Vector<T> b) __attribute__((always_inline)) {
          store<A>(sums + p, multiply_add(a, b, load<A>(sums + p)));
        };
        add(products, warped, value);
        add(key_squares, warped, warped);
        add(squares, value, value);
      });
    }
    const A *product = products_.total(), *key_square = key_squares_.total();
    const A* square = squares_.total();
    for (int64_t p = 0; p < pixels_; ++p) {
      A weights[2] = {cosine(product[p], key_square[p], square[p]),
                      cosine(square[p], square[p], square[p])};
      softmax(weights, 2, 1);
      for (int k = 0; k < 4; ++k) key_weight_[k][p] = weights[0] * taps_.weight[k][p];
      weight_[p] = weights[1];
    }
  }

  void add() {
    const int64_t channels = params_.channels;
    for (int64_t c = 0; c < channels; ++c) {
      fetch(params_.key_feature, params_.feature, channels, c);
      const T* key = plane(params_.key_feature, channels, c);
      const T* current = selected(params_.feature, params_.own_feature, params_.scale, channels, c);
      T* output = static_cast<T*>(params_.output) + (image_ * channels + c) * size_.area() + first_;
      for_each_pixel<T>(pixels_, [&](int64_t p, int64_t count) {
        Vector<T> sum = load<A>(weight_ + p) * load(current + p, count);
        taps_.read(key, p, count, [&](int k, Vector<T> values) __attribute__((always_inline)) {
          sum = multiply_add(load<A>(key_weight_[k] + p), values, sum);
        });
        store(output + p, sum, count);
      });
    }
  }

  const WarpAggregate& params_;
  const Size size_;
  int64_t image_;
  int64_t first_;
  int64_t pixels_;
  const bool* updated_;  // U of the run; null without a mask
  bool all_updated_;
  RunTaps<T> taps_;
  RunSums<T, kSumVectors> products_;
  RunSums<T, kSumVectors> key_squares_;
  RunSums<T, kSumVectors> squares_;
  A key_weight_[4][kRun] = {};  // the key frame's, times its taps'
  A weight_[kRun] = {};
  T selected_[kRun];
};

}  // namespace

Range warp_aggregate_planes_range(const WarpAggregate& params) {
  return {params.batch * runs_of(params.height * params.width), 1};
}

void warp_aggregate_planes(const WarpAggregate& params, int64_t begin, int64_t end) {
  dispatch_types(params.dtype, params.flow_dtype, [&](auto t, auto f) {
    const int64_t area = params.height * params.width;
    PlaneAggregator<decltype(t), decltype(f)> aggregator(params);
    for (int64_t run = begin; run < end; ++run) {
      const int64_t first = run % runs_of(area) * kRun;
      aggregator.compute(run / runs_of(area), first, std::min(kRun, area - first));
    }
  });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
