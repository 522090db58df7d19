// aggregate of contiguous maps. Each of the T maps is read once, a run of pixels of some channels
// at a time: the current embedding's stay in a near cache while those of the other frames pass.
#include <algorithm>
#include <memory>
#include <vector>

#include "../aggregate.h"
#include "runs.h"
#include "similarity.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

constexpr int64_t kChannels = 64;  // at a time

template <typename T>
class PlaneAggregator {
 public:
  using A = accumulate_t<T>;

  PlaneAggregator(const Aggregate& params, int64_t area)
      : params_(params),
        area_(area),
        products_(params.frames),
        squares_(params.frames),
        weights_(new A[params.frames * kRun]),
        output_(new A[kChannels * kRun]) {}

  // `pixels` adjacent ones of an image, kRun at most.
  void compute(int64_t image, int64_t first, int64_t pixels) {
    multiply(image, first, pixels);
    weigh(pixels);
    add(image, first, pixels);
  }

 private:
  const T* run(const void* map, int64_t image, int64_t channels, int64_t channel,
               int64_t first) const {
    return static_cast<const T*>(map) + (image * channels + channel) * area_ + first;
  }

  // Calls block(begin, end) for the channels, some at a time.
  template <typename Block>
  static void for_each_block(int64_t channels, Block block) {
    for (int64_t begin = 0; begin < channels; begin += kChannels) {
      block(begin, std::min(channels, begin + kChannels));
    }
  }

  // The products of all embeddings with the current one, and their squares.
  void multiply(int64_t image, int64_t first, int64_t pixels) {
    const int64_t channels = params_.embedding_channels, frames = params_.frames;
    for (auto& sums : products_) sums.clear();
    for (auto& sums : squares_) sums.clear();
    for_each_block(channels, [&](int64_t begin, int64_t end) {
      for (int64_t frame = 0; frame < frames; ++frame) {
        for (int64_t c = begin; c < end; ++c) {
          const T* embedding = run(params_.embeddings[frame], image, channels, c, first);
          const T* current = run(params_.embeddings[frames - 1], image, channels, c, first);
          fetch_run(embedding + kPlanesAhead * area_);
          A* products = products_[frame].of_channel(c, channels);
          A* squares = squares_[frame].of_channel(c, channels);
          for_each_pixel<T>(pixels, [&](int64_t p, int64_t count) {
            const Vector<T> value = load(embedding + p, count), other = load(current + p, count);
            store<A>(products + p, multiply_add(value, other, load<A>(products + p)));
            store<A>(squares + p, multiply_add(value, value, load<A>(squares + p)));
          });
        }
      }
    });
  }

  void weigh(int64_t pixels) {
    const int64_t frames = params_.frames;
    const A* current = squares_[frames - 1].total();
    for (int64_t frame = 0; frame < frames; ++frame) {
      const A* product = products_[frame].total();
      const A* square = frame < frames - 1 ? squares_[frame].total() : current;
      for (int64_t p = 0; p < pixels; ++p) {
        weights_[frame * kRun + p] = cosine(product[p], square[p], current[p]);
      }
    }
    for (int64_t p = 0; p < pixels; ++p) softmax(&weights_[p], frames, kRun);
  }

  void add(int64_t image, int64_t first, int64_t pixels) {
    const int64_t channels = params_.channels;
    for_each_block(channels, [&](int64_t begin, int64_t end) {
      for (int64_t frame = 0; frame < params_.frames; ++frame) {
        const A* weights = weights_.get() + frame * kRun;
        for (int64_t c = begin; c < end; ++c) {
          const T* feature = run(params_.features[frame], image, channels, c, first);
          fetch_run(feature + kPlanesAhead * area_);
          A* sums = output_.get() + (c - begin) * kRun;
          for_each_pixel<T>(pixels, [&](int64_t p, int64_t count) {
            const Vector<T> weight = load<A>(weights + p), value = load(feature + p, count);
            store<A>(sums + p,
                     frame == 0 ? weight * value : multiply_add(weight, value, load<A>(sums + p)));
          });
        }
      }
      for (int64_t c = begin; c < end; ++c) {
        T* output = static_cast<T*>(params_.output) + (image * channels + c) * area_ + first;
        const A* sums = output_.get() + (c - begin) * kRun;
        for_each_pixel<T>(
            pixels, [&](int64_t p, int64_t count) { store(output + p, load<A>(sums + p), count); });
      }
    });
  }

  const Aggregate& params_;
  const int64_t area_;
  std::vector<RunSums<T, kUnroll>> products_;  // of each frame
  std::vector<RunSums<T, kUnroll>> squares_;
  const std::unique_ptr<A[]> weights_;  // [T, kRun]
  const std::unique_ptr<A[]> output_;   // [kChannels, kRun]
};

}  // namespace

Range aggregate_planes_range(const Aggregate& params, int64_t area) {
  return {params.pixels / area * runs_of(area), 1};
}

void aggregate_planes(const Aggregate& params, int64_t area, int64_t begin, int64_t end) {
  dispatch_type(params.dtype, [&](auto t) {
    PlaneAggregator<decltype(t)> aggregator(params, area);
    for (int64_t run = begin; run < end; ++run) {
      const int64_t first = run % runs_of(area) * kRun;
      aggregator.compute(run / runs_of(area), first, std::min(kRun, area - first));
    }
  });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
