// warp_aggregate. What limits it is the memory that it reads once, so nothing warped is stored: one
// loop over a pixel's embeddings sums what the weights need, one over its features is the result.
// Four pixels read the same row of the key frame's maps. The next one in the line finds it in the
// cache; for those of the line below a whole line would be too long, so maps are walked in strips,
// a few columns wide, from top to bottom.
#include "../warp_aggregate.h"

#include <algorithm>
#include <memory>

#include "../isa.h"
#include "similarity.h"
#include "taps.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

constexpr int kVectors = 2;  // at a time: registers also hold three sums each and four weights

// The strips of all images, and their lines one below the other. A line is an item of the range.
class Strips {
 public:
  explicit Strips(const WarpAggregate& params) : height_(params.height), width_(params.width) {
    const int64_t bytes = params.dtype == DType::kFloat64   ? 8
                          : params.dtype == DType::kFloat32 ? 4
                                                            : 2;
    const int64_t maps = params.mask ? 2 : 1;  // that are warped
    const int64_t row =
        std::max<int64_t>(1, maps * bytes * (params.channels + params.embedding_channels));
    // Two lines of rows, and as much again of what passes through, within 512 KB.
    const int64_t columns = std::min(width_, std::max<int64_t>(8, (1 << 17) / row));
    count_ = (width_ + columns - 1) / columns;
    items_ = params.batch * count_ * height_;
  }

  struct Line {
    int64_t image;
    int64_t y;
    int64_t first;  // column
    int64_t end;
  };

  int64_t items() const { return items_; }
  int64_t columns() const { return (width_ + count_ - 1) / count_; }

  Line line(int64_t item) const {
    const int64_t strip = item / height_ % count_;
    return {item / height_ / count_, item % height_, strip * width_ / count_,
            (strip + 1) * width_ / count_};
  }

 private:
  int64_t height_;
  int64_t width_;
  int64_t count_;  // strips an image
  int64_t items_;
};

template <typename T, typename F>
class Aggregator {
 public:
  using A = accumulate_t<T>;

  explicit Aggregator(const WarpAggregate& params)
      : params_(params),
        size_{params.channels, params.height, params.width},
        zeros_(new T[std::max(params.channels, params.embedding_channels)]()),
        feature_(params.mask ? new T[params.channels] : nullptr),
        embedding_(params.mask ? new T[params.embedding_channels] : nullptr) {}

  struct Pixel {
    int64_t image;
    int64_t index;  // within [N, H, W]
    Taps<T> taps;
    bool updated;
  };

  Pixel pixel(const Strips::Line& line, int64_t x) const {
    const int64_t index = (line.image * size_.height + line.y) * size_.width + x;
    const F* flow = static_cast<const F*>(params_.flow) + 2 * line.image * size_.area();
    return {line.image, index, Taps<T>(size_, flow, line.y, x),
            !params_.mask || static_cast<const bool*>(params_.mask)[index]};
  }

  // `next` is the pixel whose rows are to be fetched meanwhile.
  void compute(const Pixel& pixel, const Pixel& next) {
    const int64_t channels = params_.channels, embedding_channels = params_.embedding_channels;
    const T* embedding = row(params_.embedding, pixel, embedding_channels);
    const T* feature = row(params_.feature, pixel, channels);
    if (!pixel.updated) {
      const T* scale = row(params_.scale, pixel, channels);
      const auto own_embedding = rows(params_.own_embedding, pixel, embedding_channels);
      const auto own_feature = rows(params_.own_feature, pixel, channels);
      warp_row<false, T>(pixel.taps, own_embedding, embedding_channels, nullptr, embedding_.get());
      scale ? warp_row<true>(pixel.taps, own_feature, channels, scale, feature_.get())
            : warp_row<false>(pixel.taps, own_feature, channels, scale, feature_.get());
      embedding = embedding_.get();
      feature = feature_.get();
    }
    A weights[2];
    weigh(pixel.taps, rows(params_.key_embedding, pixel, embedding_channels), embedding,
          new_row(params_.key_embedding, next, embedding_channels),
          new_current_row(params_.embedding, params_.own_embedding, next, embedding_channels),
          weights);
    add(pixel.taps, rows(params_.key_feature, pixel, channels), feature, weights,
        new_row(params_.key_feature, next, channels),
        new_current_row(params_.feature, params_.own_feature, next, channels),
        static_cast<T*>(params_.output) + pixel.index * channels);
  }

 private:
  // The pixel's own row of a map, null of no map.
  static const T* row(const void* map, const Pixel& pixel, int64_t channels) {
    return map ? static_cast<const T*>(map) + pixel.index * channels : nullptr;
  }

  const T* image(const void* map, const Pixel& pixel, int64_t channels) const {
    return static_cast<const T*>(map) + pixel.image * size_.area() * channels;
  }

  TapRows<T> rows(const void* map, const Pixel& pixel, int64_t channels) const {
    return {pixel.taps, image(map, pixel, channels), channels, zeros_.get()};
  }

  // Of the rows that the pixel's taps read, the one that those before have not: the lower right.
  const T* new_row(const void* map, const Pixel& pixel, int64_t channels) const {
    for (int k = 3; k >= 0; --k) {
      if (pixel.taps.inside(k)) {
        return image(map, pixel, channels) + pixel.taps.pixel(k) * channels;
      }
    }
    return zeros_.get();
  }

  const T* new_current_row(const void* map, const void* own, const Pixel& pixel,
                           int64_t channels) const {
    return pixel.updated ? row(map, pixel, channels) : new_row(own, pixel, channels);
  }

  HPVOD_INLINE void weigh(const Taps<T>& taps, const TapRows<T>& key, const T* current,
                          const T* next_key, const T* next_current, A (&weights)[2]) const {
    Vector<T> weight[4];
    for (int k = 0; k < 4; ++k) weight[k] = Vector<T>{} + taps.weight[k];
    Vector<T> products[kVectors] = {}, key_squares[kVectors] = {}, squares[kVectors] = {};
    const auto add = [&](int u, int64_t c, int64_t count) {
      Vector<T> warped = weight[0] * load(key.row[0] + c, count);
      for (int k = 1; k < 4; ++k) {
        warped = multiply_add(weight[k], load(key.row[k] + c, count), warped);
      }
      const Vector<T> value = load(current + c, count);
      products[u] = multiply_add(warped, value, products[u]);
      key_squares[u] = multiply_add(warped, warped, key_squares[u]);
      squares[u] = multiply_add(value, value, squares[u]);
    };
    int64_t c = 0;
    for (; c + kVectors * kLanes<T> <= params_.embedding_channels; c += kVectors * kLanes<T>) {
      if (fetches_key_) fetch_ahead<T, kVectors>(next_key + c);
      fetch_ahead<T, kVectors>(next_current + c);
      for (int u = 0; u < kVectors; ++u) add(u, c + u * kLanes<T>, kLanes<T>);
    }
    for (; c < params_.embedding_channels; c += kLanes<T>) {
      add(0, c, std::min<int64_t>(kLanes<T>, params_.embedding_channels - c));
    }
    const A square = sum<T>(squares[0] + squares[1]);
    weights[0] =
        cosine(sum<T>(products[0] + products[1]), sum<T>(key_squares[0] + key_squares[1]), square);
    weights[1] = cosine(square, square, square);
    softmax(weights, 2, 1);
  }

  HPVOD_INLINE void add(const Taps<T>& taps, const TapRows<T>& key, const T* current,
                        const A (&weights)[2], const T* next_key, const T* next_current,
                        T* output) const {
    Vector<T> weight[4];
    for (int k = 0; k < 4; ++k) weight[k] = Vector<T>{} + weights[0] * taps.weight[k];
    const Vector<T> current_weight = Vector<T>{} + weights[1];
    const auto single = [&](int64_t c, int64_t count) {
      Vector<T> value = current_weight * load(current + c, count);
      for (int k = 0; k < 4; ++k) {
        value = multiply_add(weight[k], load(key.row[k] + c, count), value);
      }
      store(output + c, value, count);
    };
    int64_t c = 0;
    for (; c + kVectors * kLanes<T> <= params_.channels; c += kVectors * kLanes<T>) {
      if (fetches_key_) fetch_ahead<T, kVectors>(next_key + c);
      fetch_ahead<T, kVectors>(next_current + c);
      for (int u = 0; u < kVectors; ++u) single(c + u * kLanes<T>, kLanes<T>);
    }
    for (; c < params_.channels; c += kLanes<T>) {
      single(c, std::min<int64_t>(kLanes<T>, params_.channels - c));
    }
  }

  const WarpAggregate& params_;
  const Size size_;
  const std::unique_ptr<T[]> zeros_;
  const std::unique_ptr<T[]> feature_;  // warped, of a pixel that is not updated
  const std::unique_ptr<T[]> embedding_;
  // Three of the key frame's four rows are in the cache. Intel's CPUs with AVX-512 foresee the
  // fourth, and asked for it, fetch the others later; AMD's take a fifth longer unasked.
  const bool fetches_key_ = kVectorBytes < 64 || !cpu_is_intel();
};

template <typename T, typename F>
void aggregate_lines(const WarpAggregate& params, int64_t begin, int64_t end) {
  const Strips strips(params);
  Aggregator<T, F> aggregator(params);
  auto pixel = aggregator.pixel(strips.line(begin), strips.line(begin).first);
  for (int64_t item = begin; item < end; ++item) {
    const Strips::Line line = strips.line(item), below = strips.line(std::min(item + 1, end - 1));
    for (int64_t x = line.first; x < line.end; ++x) {
      const auto next =
          x + 1 < line.end ? aggregator.pixel(line, x + 1) : aggregator.pixel(below, below.first);
      aggregator.compute(pixel, next);
      pixel = next;
    }
  }
}

}  // namespace

Range warp_aggregate_range(const WarpAggregate& params) {
  const Strips strips(params);
  const int64_t values = strips.columns() * (params.channels + params.embedding_channels);
  // Below some 32K values the work is shorter than waking a thread.
  return {strips.items(), std::max<int64_t>(1, 32768 / std::max<int64_t>(1, values))};
}

void warp_aggregate(const WarpAggregate& params, int64_t begin, int64_t end) {
  dispatch_types(params.dtype, params.flow_dtype, [&](auto t, auto f) {
    aggregate_lines<decltype(t), decltype(f)>(params, begin, end);
  });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
