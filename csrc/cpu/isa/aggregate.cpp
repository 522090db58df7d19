// aggregate. What limits it is the memory that it reads once, T rows of embeddings and T rows of
// features a pixel, so a few pixels are taken at a time: of each map then one longer run is read.
#include "../aggregate.h"

#include <algorithm>
#include <memory>

#include "similarity.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

constexpr int64_t kPixels = 4;  // at a time

// The product of an embedding with the current one, and its square. `next` is what will be read
// after it.
template <typename T>
struct Products {
  using A = accumulate_t<T>;

  HPVOD_INLINE Products(const T* embedding, const T* current, int64_t channels, const T* next) {
    Vector<T> products[kUnroll] = {}, squares[kUnroll] = {};
    const auto add = [&](int u, int64_t c, int64_t count) {
      const Vector<T> value = load(embedding + c, count);
      products[u] = multiply_add(value, load(current + c, count), products[u]);
      squares[u] = multiply_add(value, value, squares[u]);
    };
    for_each_vector<T>(
        channels,
        [&](int64_t c) {
          fetch_ahead<T, kUnroll>(next + c);
#pragma GCC unroll 4
          for (int u = 0; u < kUnroll; ++u) add(u, c + u * kLanes<T>, kLanes<T>);
        },
        [&](int64_t c, int64_t count) { add(0, c, count); });
    product = sum<T>((products[0] + products[1]) + (products[2] + products[3]));
    square = sum<T>((squares[0] + squares[1]) + (squares[2] + squares[3]));
  }

  A product;
  A square;
};

// sums += weight * feature, or = for the first.
template <bool kFirst, typename T>
HPVOD_INLINE void add_row(accumulate_t<T> weight, const T* feature, int64_t channels,
                          accumulate_t<T>* sums, const T* next) {
  using A = accumulate_t<T>;
  const Vector<T> weights = Vector<T>{} + weight;
  const auto add = [&](int64_t c, int64_t count) {
    const Vector<T> value = load(feature + c, count);
    store<A>(sums + c,
             kFirst ? weights * value : multiply_add(weights, value, load<A>(sums + c, count)),
             count);
  };
  for_each_vector<T>(
      channels,
      [&](int64_t c) {
        fetch_ahead<T, kUnroll>(next + c);
#pragma GCC unroll 4
        for (int u = 0; u < kUnroll; ++u) add(c + u * kLanes<T>, kLanes<T>);
      },
      add);
}

template <typename T>
class Aggregator {
 public:
  using A = accumulate_t<T>;

  explicit Aggregator(const Aggregate& params)
      : params_(params), sums_(new A[kPixels * params.channels]) {}

  // `count` pixels, kPixels at most.
  void compute(int64_t first, int64_t count) {
    weigh(first, count);
    add(first, count);
    T* output = static_cast<T*>(params_.output) + first * params_.channels;
    const auto single = [&](int64_t c, int64_t lanes) {
      store(output + c, load<A>(sums_.get() + c, lanes), lanes);
    };
    const auto group = [&](int64_t c) {
      for (int u = 0; u < kUnroll; ++u) single(c + u * kLanes<T>, kLanes<T>);
    };
    for_each_vector<T>(count * params_.channels, group, single);
  }

 private:
  const T* embedding(int64_t frame, int64_t pixel) const {
    return static_cast<const T*>(params_.embeddings[frame]) + pixel * params_.embedding_channels;
  }

  const T* feature(int64_t frame, int64_t pixel) const {
    return static_cast<const T*>(params_.features[frame]) + pixel * params_.channels;
  }

  // The current frame comes first: its embedding is read once more with each of the others.
  void weigh(int64_t first, int64_t count) {
    const int64_t frames = params_.frames, last = frames - 1;
    A squares[kPixels];
    for (int64_t i = 0; i < frames; ++i) {
      const int64_t frame = i == 0 ? last : i - 1;
      for (int64_t p = 0; p < count; ++p) {
        const int64_t pixel = first + p;
        const T* next = i < last ? embedding(i, pixel) : feature(0, pixel);
        const Products<T> products(embedding(frame, pixel), embedding(last, pixel),
                                   params_.embedding_channels, next);
        if (i == 0) squares[p] = products.square;
        weights_[frame][p] = cosine(products.product, products.square, squares[p]);
      }
    }
    for (int64_t p = 0; p < count; ++p) softmax(&weights_[0][p], frames, kPixels);
  }

  void add(int64_t first, int64_t count) {
    const int64_t last = params_.frames - 1;
    for (int64_t frame = 0; frame <= last; ++frame) {
      for (int64_t p = 0; p < count; ++p) {
        const int64_t pixel = first + p;
        const T* next = frame < last ? feature(frame + 1, pixel) : embedding(last, pixel + count);
        A* sums = sums_.get() + p * params_.channels;
        const A weight = weights_[frame][p];
        frame == 0 ? add_row<true>(weight, feature(frame, pixel), params_.channels, sums, next)
                   : add_row<false>(weight, feature(frame, pixel), params_.channels, sums, next);
      }
    }
  }

  const Aggregate& params_;
  const std::unique_ptr<A[]> sums_;  // [kPixels, C]
  A weights_[kMaxAggregateFrames][kPixels];
};

}  // namespace

Range aggregate_range(const Aggregate& params) {
  // Below some 32K values the work is shorter than waking a thread.
  const int64_t values = params.frames * (params.channels + params.embedding_channels);
  return {params.pixels, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, values))};
}

void aggregate(const Aggregate& params, int64_t begin, int64_t end) {
  dispatch_type(params.dtype, [&](auto t) {
    Aggregator<decltype(t)> aggregator(params);
    for (int64_t first = begin; first < end; first += kPixels) {
      aggregator.compute(first, std::min(kPixels, end - first));
    }
  });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
