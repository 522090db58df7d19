// aggregate of contiguous maps. Each of the T maps is read once, a run of pixels of a few channels
// at a time: the current embedding's stay in the nearest cache while those of the other frames
// pass.
#include <algorithm>
#include <memory>

#include "../aggregate.h"
#include "runs.h"
#include "similarity.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

constexpr int64_t kPlanes = 16;  // whose sum is made in a register before it goes to memory
constexpr int kWide = 4;         // vectors at a time

// Calls planes(channel, count) for kPlanes of the channels at a time.
template <typename Function>
HPVOD_INLINE void for_each_planes(int64_t channels, Function planes) {
  int64_t c = 0;
  for (; c + kPlanes <= channels; c += kPlanes) planes(c, kPlanes);
  if (c < channels) planes(c, channels - c);
}

template <typename T>
class PlaneAggregator {
 public:
  using A = accumulate_t<T>;

  PlaneAggregator(const Aggregate& params, int64_t area)
      : params_(params),
        area_(area),
        products_(new A[params.frames * kRun]),
        squares_(new A[params.frames * kRun]) {}

  // `pixels` adjacent ones of an image, kRun at most.
  void compute(int64_t image, int64_t first, int64_t pixels) {
    image_ = image, first_ = first, pixels_ = pixels;
    multiply();
    weigh();
    add();
  }

 private:
  const T* run(const void* map, int64_t channels, int64_t channel) const {
    return static_cast<const T*>(map) + (image_ * channels + channel) * area_ + first_;
  }

  // The products of all embeddings with the current one, and their squares.
  void multiply() {
    const int64_t channels = params_.embedding_channels, frames = params_.frames;
    std::fill_n(products_.get(), frames * kRun, A{});
    std::fill_n(squares_.get(), frames * kRun, A{});
    for_each_planes(channels, [&](int64_t c, int64_t count) {
      const T* current = run(params_.embeddings[frames - 1], channels, c);
      for (int64_t frame = 0; frame < frames; ++frame) {
        add_products(frame, run(params_.embeddings[frame], channels, c), current, count);
      }
    });
  }

  // Of `count` planes of an embedding with the current one.
  void add_products(int64_t frame, const T* embedding, const T* current, int64_t count) {
    A *products = &products_[frame * kRun], *squares = &squares_[frame * kRun];
    const int64_t area = area_;
    for_each_pixel<T>(pixels_, [&](int64_t p, int64_t lanes) __attribute__((always_inline)) {
      Vector<T> product = {}, square = {};
      const T *plane = embedding + p, *current_plane = current + p;
      for (int64_t j = 0; j < count; ++j, plane += area, current_plane += area) {
        __builtin_prefetch(plane + kFetched<T>);
        const Vector<T> value = load(plane, lanes);
        product = multiply_add(value, load(current_plane, lanes), product);
        square = multiply_add(value, value, square);
      }
      store<A>(products + p, load<A>(products + p) + product);
      store<A>(squares + p, load<A>(squares + p) + square);
    });
  }

  // Turns the products into weights.
  void weigh() {
    const int64_t frames = params_.frames;
    const A* current = &squares_[(frames - 1) * kRun];
    for (int64_t i = 0; i < frames; ++i) {
      A *products = &products_[i * kRun], *squares = &squares_[i * kRun];
      for (int64_t p = 0; p < pixels_; ++p)
        products[p] = cosine(products[p], squares[p], current[p]);
    }
    for (int64_t p = 0; p < pixels_; ++p) softmax(&products_[p], frames, kRun);
  }

  void add() {
    const int64_t channels = params_.channels;
    for (int64_t c = 0; c < channels; ++c) {
      T* output = static_cast<T*>(params_.output) + (image_ * channels + c) * area_ + first_;
      int64_t p = 0;
      for (; p + kWide * kLanes<T> <= pixels_; p += kWide * kLanes<T>) {
        add_pixels<kWide>(c, p, kLanes<T>, output + p);
      }
      for (; p < pixels_; p += kLanes<T>) {
        add_pixels<1>(c, p, std::min<int64_t>(kLanes<T>, pixels_ - p), output + p);
      }
    }
  }

  // kCount vectors of the sum of all frames' planes c.
  template <int kCount>
  HPVOD_INLINE void add_pixels(int64_t c, int64_t p, int64_t lanes, T* output) const {
    Vector<T> sums[kCount] = {};
    const A* weight = products_.get() + p;
    for (int64_t frame = 0; frame < params_.frames; ++frame, weight += kRun) {
      const T* feature = run(params_.features[frame], params_.channels, c) + p;
#pragma GCC unroll 8
      for (int v = 0; v < kCount; ++v) {
        __builtin_prefetch(feature + v * kLanes<T> + kFetched<T>);
        const Vector<T> of_frame = load<A>(weight + v * kLanes<T>),
                        value = load(feature + v * kLanes<T>, lanes);
        sums[v] = frame == 0 ? of_frame * value : multiply_add(of_frame, value, sums[v]);
      }
    }
    for (int v = 0; v < kCount; ++v) store(output + v * kLanes<T>, sums[v], lanes);
  }

  const Aggregate& params_;
  const int64_t area_;
  int64_t image_;
  int64_t first_;
  int64_t pixels_;
  const std::unique_ptr<A[]> products_;  // [T, kRun]; then weights
  const std::unique_ptr<A[]> squares_;   // [T, kRun]
};

}  // namespace

Range aggregate_planes_range(const Aggregate& params, int64_t area) {
  return range_of_pieces(params.pixels / area, area);
}

void aggregate_planes(const Aggregate& params, int64_t area, int64_t begin, int64_t end) {
  dispatch_type(params.dtype, [&](auto t) {
    PlaneAggregator<decltype(t)> aggregator(params, area);
    for_each_run(area, begin, end, [&](int64_t image, int64_t first, int64_t pixels) {
      aggregator.compute(image, first, pixels);
    });
  });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
