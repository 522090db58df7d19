// A pixel of a channels_last map is one row of C adjacent values, and the four taps of a
// bilinear sample are four rows that all C channels share. A contiguous map is brought to
// that form a block of channels at a time (transpose.h), and taken back.
#include "../warp.h"

#include <algorithm>
#include <memory>

#include "../../kernels/bilinear.h"
#include "transpose.h"
#include "vector.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

// Vectors a loop over the channels holds in flight: enough independent sums to hide the
// latency of an FMA, few enough to stay in registers.
constexpr int kUnroll = 4;

// Calls group(channel) while kUnroll vectors are left, then single(channel, count), whose
// count is short of a vector only in the last call.
template <typename T, typename Group, typename Single>
HPVOD_INLINE void for_each_vector(int64_t channels, Group group, Single single) {
  int64_t c = 0;
  for (; c + kUnroll * kLanes<T> <= channels; c += kUnroll * kLanes<T>) group(c);
  for (; c + kLanes<T> <= channels; c += kLanes<T>) single(c, kLanes<T>);
  if (c < channels) single(c, channels - c);
}

template <typename T>
HPVOD_INLINE Vector<T> load_some(const T* source, int64_t count) {
  return count == kLanes<T> ? load(source) : load(source, count);
}

template <typename T>
HPVOD_INLINE void store_some(T* target, Vector<T> value, int64_t count) {
  count == kLanes<T> ? store(target, value) : store(target, value, count);
}

// A map of one image as the loops below see it.
struct Size {
  int64_t channels;
  int64_t height;
  int64_t width;

  int64_t area() const { return height * width; }
};

// The four taps of a pixel.
template <typename T>
struct Taps {
  using A = accumulate_t<T>;

  Taps() = default;

  // flow is that of the pixel's image, [2, H, W].
  template <typename F>
  HPVOD_INLINE Taps(const Size& size, const F* flow, int64_t y, int64_t x) {
    const F* step = flow + y * size.width + x;
    const auto taps =
        bilinear_taps<A>(static_cast<int>(x), static_cast<int>(y), static_cast<A>(widen(step[0])),
                         static_cast<A>(widen(step[size.area()])), static_cast<int>(size.width),
                         static_cast<int>(size.height));
    first_ = static_cast<int64_t>(taps.y) * size.width + taps.x;
    width_ = size.width;
    inside_ = taps.inside;
    fraction_x_ = taps.fraction_x;
    fraction_y_ = taps.fraction_y;
    for (int k = 0; k < 4; ++k) weight[k] = bilinear_weight(fraction_x_, fraction_y_, k);
  }

  bool inside(int k) const { return inside_ >> k & 1; }

  // The pixel of the map that corner k reads.
  int64_t pixel(int k) const { return first_ + (k & 1) + (k >> 1) * width_; }

  // d output / d flow, from the sums of gradient * value at each corner.
  A gradient_x(const A (&dot)[4]) const {
    return (1 - fraction_y_) * (dot[1] - dot[0]) + fraction_y_ * (dot[3] - dot[2]);
  }
  A gradient_y(const A (&dot)[4]) const {
    return (1 - fraction_x_) * (dot[2] - dot[0]) + fraction_x_ * (dot[3] - dot[1]);
  }

  A weight[4];

 private:
  int64_t first_;
  int64_t width_;
  unsigned inside_;
  A fraction_x_;
  A fraction_y_;
};

// The taps of the pixels [begin, end) of an image. Found once, they serve every block of
// channels: finding them takes longer than warping a few channels does.
template <typename T, typename F>
std::unique_ptr<Taps<T>[]> find_taps(const Size& size, const F* flow, int64_t begin, int64_t end) {
  std::unique_ptr<Taps<T>[]> taps(new Taps<T>[end - begin]);
  int64_t y = begin / size.width, x = begin % size.width;
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    taps[pixel - begin] = Taps<T>(size, flow, y, x);
    if (++x == size.width) x = 0, ++y;
  }
  return taps;
}

// The rows that the taps read. A tap outside the map reads zeros, for weight 0 times some
// row of the map would be NaN where that row is not finite.
template <typename T>
struct TapRows {
  const T* row[4];

  HPVOD_INLINE TapRows(const Taps<T>& taps, const T* map, int64_t channels, const T* zeros) {
    for (int k = 0; k < 4; ++k) row[k] = taps.inside(k) ? map + taps.pixel(k) * channels : zeros;
  }
};

// ---- The loops over the pixels [begin, end) of one image in channels_last, [H, W, C]

template <bool kScaled, typename T>
void forward_image(const Size& size, const Taps<T>* found, const T* feature, const T* scale,
                   T* output, int64_t begin, int64_t end) {
  const std::unique_ptr<T[]> zeros(new T[size.channels]());
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const Taps<T>& taps = found[pixel - begin];
    const TapRows<T> tap(taps, feature, size.channels, zeros.get());
    const int64_t row = pixel * size.channels;
    const auto single = [&](int64_t c, int64_t count) {
      Vector<T> value = taps.weight[0] * load_some(tap.row[0] + c, count);
      for (int k = 1; k < 4; ++k) value += taps.weight[k] * load_some(tap.row[k] + c, count);
      if (kScaled) value *= load_some(scale + row + c, count);
      store_some(output + row + c, value, count);
    };
    const auto group = [&](int64_t c) {
      for (int u = 0; u < kUnroll; ++u) single(c + u * kLanes<T>, kLanes<T>);
    };
    for_each_vector<T>(size.channels, group, single);
  }
}

// Writes the flow's gradient to grad_flow, [2, H, W], and the scale's to grad_scale,
// [H, W, C], each unless null.
template <bool kScaled, typename T>
void grad_flow_image(const Size& size, const Taps<T>* found, const T* feature, const T* scale,
                     const T* grad_output, accumulate_t<T>* grad_flow, T* grad_scale, int64_t begin,
                     int64_t end) {
  const std::unique_ptr<T[]> zeros(new T[size.channels]());
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const Taps<T>& taps = found[pixel - begin];
    const TapRows<T> tap(taps, feature, size.channels, zeros.get());
    const int64_t row = pixel * size.channels;
    Vector<T> dot[4] = {};
    const auto single = [&](Vector<T>(&sums)[4], int64_t c, int64_t count) {
      const Vector<T> gradient = load_some(grad_output + row + c, count);
      const Vector<T> scaled = kScaled ? gradient * load_some(scale + row + c, count) : gradient;
      Vector<T> warped = {};
      for (int k = 0; k < 4; ++k) {
        const Vector<T> value = load_some(tap.row[k] + c, count);
        sums[k] += scaled * value;
        if (kScaled) warped += taps.weight[k] * value;
      }
      if (kScaled && grad_scale) store_some(grad_scale + row + c, gradient * warped, count);
    };
    // A sum of sums: its rounding error grows with the lengths of both, not their product.
    const auto group = [&](int64_t c) {
      Vector<T> sums[4] = {};
      for (int u = 0; u < kUnroll; ++u) single(sums, c + u * kLanes<T>, kLanes<T>);
      for (int k = 0; k < 4; ++k) dot[k] += sums[k];
    };
    for_each_vector<T>(size.channels, group,
                       [&](int64_t c, int64_t count) { single(dot, c, count); });
    if (grad_flow) {
      accumulate_t<T> total[4];
      for (int k = 0; k < 4; ++k) total[k] = sum<T>(dot[k]);
      grad_flow[pixel] = taps.gradient_x(total);
      grad_flow[size.area() + pixel] = taps.gradient_y(total);
    }
  }
}

template <typename A>
struct Link {
  int64_t pixel;  // of [N, H, W]
  A weight;
};

// links[start[s]] to links[start[s + 1]] read pixel s of the feature [N or 1, H, W], in the
// order of the output: the sum over them has one order, whatever the threads do.
template <typename A>
struct Links {
  int64_t* start;
  Link<A>* links;
};

// The gradient of the feature pixels [begin, end), into rows of target from its first on;
// row `pixel - first_pixel` of grad_output and scale belongs to an output pixel.
template <bool kScaled, typename T>
void gather_rows(const Links<accumulate_t<T>>& lists, int64_t channels, const T* grad_output,
                 const T* scale, int64_t first_pixel, T* target, int64_t begin, int64_t end) {
  for (int64_t source = begin; source < end; ++source, target += channels) {
    const auto* first = lists.links + lists.start[source];
    const auto* last = lists.links + lists.start[source + 1];
    const auto gather = [&](auto unroll, int64_t c, int64_t count) {
      constexpr int vectors = decltype(unroll)::value;
      Vector<T> total[vectors] = {};
      for (const auto* link = first; link != last; ++link) {
        const int64_t row = (link->pixel - first_pixel) * channels + c;
        for (int u = 0; u < vectors; ++u) {
          Vector<T> gradient = load_some(grad_output + row + u * kLanes<T>, count);
          if (kScaled) gradient *= load_some(scale + row + u * kLanes<T>, count);
          total[u] += link->weight * gradient;
        }
      }
      for (int u = 0; u < vectors; ++u) store_some(target + c + u * kLanes<T>, total[u], count);
    };
    for_each_vector<T>(
        channels, [&](int64_t c) { gather(std::integral_constant<int, kUnroll>{}, c, kLanes<T>); },
        [&](int64_t c, int64_t count) { gather(std::integral_constant<int, 1>{}, c, count); });
  }
}

// ---- What an item is: in channels_last a pixel, in contiguous a block of channels

// Calls image(n, begin, end) for the pixels [begin, end) of [N, H, W], image by image.
template <typename Image>
void for_each_image(int64_t area, int64_t begin, int64_t end, Image image) {
  while (begin < end) {
    const int64_t n = begin / area;
    const int64_t stop = std::min(end, (n + 1) * area);
    image(n, begin - n * area, stop - n * area);
    begin = stop;
  }
}

struct Blocks {
  int64_t channels;  // of a block; the last may be smaller
  int64_t count;
};

// The widest block whose transposed copies stay within a core's second-level cache.
Blocks channel_blocks(const WarpShape& shape, int64_t images) {
  if (shape.layout == Layout::kChannelsLast) return {shape.channels, 1};
  const int64_t bytes = shape.dtype == DType::kFloat64 ? 8 : shape.dtype == DType::kFloat32 ? 4 : 2;
  int64_t channels = 32;
  while (channels > 16 && 2 * images * shape.height * shape.width * channels * bytes > (3 << 19)) {
    channels /= 2;
  }
  channels = std::min(channels, shape.channels);
  return {channels, (shape.channels + channels - 1) / channels};
}

// A block of the channels of a contiguous map, dense in channels_last while it is worked on.
template <typename T>
class BlockBuffer {
 public:
  BlockBuffer(bool used, const Size& size, int64_t images, int64_t channels)
      : size_(size), values_(used ? new T[images * size.area() * channels] : nullptr) {}

  // Channels [first, first + count) of `images` images of the map [*, C, H, W].
  const T* fill(const T* map, int64_t image, int64_t images, int64_t first, int64_t count) {
    if (!values_) return nullptr;
    for (int64_t i = 0; i < images; ++i) {
      transpose_matrix(map + ((image + i) * size_.channels + first) * size_.area(), count,
                       size_.area(), values_.get() + i * size_.area() * count);
    }
    return values_.get();
  }

  void empty(T* map, int64_t image, int64_t first, int64_t count) const {
    if (!values_) return;
    transpose_matrix(values_.get(), size_.area(), count,
                     map + (image * size_.channels + first) * size_.area());
  }

  T* data() { return values_.get(); }

 private:
  Size size_;
  std::unique_ptr<T[]> values_;
};

Size size_of(const WarpShape& shape) { return {shape.channels, shape.height, shape.width}; }

template <typename T>
const T* map_at(const void* maps, const Size& size, int64_t n) {
  return static_cast<const T*>(maps) + n * size.channels * size.area();
}

template <bool kScaled, typename T, typename F>
void forward(const WarpForward& params, int64_t begin, int64_t end) {
  const WarpShape& shape = params.shape;
  const Size size = size_of(shape);
  const F* flow = static_cast<const F*>(params.flow);
  const T* feature = static_cast<const T*>(params.feature);
  const T* scale = static_cast<const T*>(params.scale);
  T* output = static_cast<T*>(params.output);
  if (shape.layout == Layout::kChannelsLast) {
    for_each_image(size.area(), begin, end, [&](int64_t n, int64_t from, int64_t to) {
      const int64_t map = n * size.channels * size.area();
      const auto taps = find_taps<T>(size, flow + 2 * n * size.area(), from, to);
      forward_image<kScaled>(size, taps.get(), feature + (shape.feature_batch == 1 ? 0 : map),
                             kScaled ? scale + map : nullptr, output + map, from, to);
    });
    return;
  }
  const Blocks blocks = channel_blocks(shape, 1);
  BlockBuffer<T> feature_block(true, size, 1, blocks.channels);
  BlockBuffer<T> scale_block(kScaled, size, 1, blocks.channels);
  BlockBuffer<T> output_block(true, size, 1, blocks.channels);
  std::unique_ptr<Taps<T>[]> taps;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / blocks.count, first = item % blocks.count * blocks.channels;
    const int64_t count = std::min(blocks.channels, size.channels - first);
    if (first == 0 || item == begin) {
      taps = find_taps<T>(size, flow + 2 * n * size.area(), 0, size.area());
    }
    forward_image<kScaled>(
        Size{count, size.height, size.width}, taps.get(),
        feature_block.fill(feature, shape.feature_batch == 1 ? 0 : n, 1, first, count),
        scale_block.fill(scale, n, 1, first, count), output_block.data(), 0, size.area());
    output_block.empty(output, n, first, count);
  }
}

// ---- Backward

template <typename A>
struct Workspace {
  Links<A> links;
  A* parts;  // [blocks, N, 2, H, W]

  Workspace(const WarpShape& shape, void* memory) {
    const int64_t area = shape.height * shape.width;
    links.start = static_cast<int64_t*>(memory);
    links.links = reinterpret_cast<Link<A>*>(links.start + shape.feature_batch * area + 2);
    parts = reinterpret_cast<A*>(links.links + 4 * shape.batch * area);
  }

  static int64_t bytes(const WarpShape& shape) {
    const int64_t area = shape.height * shape.width;
    return (shape.feature_batch * area + 2) * sizeof(int64_t) +
           4 * shape.batch * area * sizeof(Link<A>) +
           channel_blocks(shape, 1).count * 2 * shape.batch * area * sizeof(A);
  }
};

template <typename T, typename F>
void link(const WarpBackward& params) {
  const WarpShape& shape = params.shape;
  const Size size = size_of(shape);
  const auto lists = Workspace<accumulate_t<T>>(shape, params.workspace).links;

  // A counting sort. Counted one place late and then filled through the place between,
  // the starts end up where they belong without a copy.
  int64_t* next = lists.start + 1;
  std::fill_n(lists.start, shape.feature_batch * size.area() + 2, int64_t{0});
  for (const bool fill : {false, true}) {
    int64_t pixel = 0;
    for (int64_t n = 0; n < shape.batch; ++n) {
      const F* flow = static_cast<const F*>(params.flow) + 2 * n * size.area();
      const int64_t map = shape.feature_batch == 1 ? 0 : n * size.area();
      for (int64_t y = 0; y < size.height; ++y) {
        for (int64_t x = 0; x < size.width; ++x, ++pixel) {
          const Taps<T> taps(size, flow, y, x);
          for (int k = 0; k < 4; ++k) {
            if (!taps.inside(k)) continue;
            const int64_t source = map + taps.pixel(k);
            if (fill) {
              lists.links[next[source]++] = {pixel, taps.weight[k]};
            } else {
              ++next[source + 1];
            }
          }
        }
      }
    }
    if (!fill) {
      for (int64_t s = 0; s < shape.feature_batch * size.area(); ++s) next[s + 1] += next[s];
    }
  }
}

template <bool kScaled, typename T>
void grad_feature(const WarpBackward& params, int64_t begin, int64_t end) {
  const WarpShape& shape = params.shape;
  const Size size = size_of(shape);
  const auto lists = Workspace<accumulate_t<T>>(shape, params.workspace).links;
  const T* grad_output = static_cast<const T*>(params.grad_output);
  const T* scale = static_cast<const T*>(params.scale);
  T* grad_feature = static_cast<T*>(params.grad_feature);
  if (shape.layout == Layout::kChannelsLast) {
    gather_rows<kScaled>(lists, size.channels, grad_output, scale, 0,
                         grad_feature + begin * size.channels, begin, end);
    return;
  }
  const int64_t images = shape.feature_batch == 1 ? shape.batch : 1;  // that share a feature
  const Blocks blocks = channel_blocks(shape, images);
  BlockBuffer<T> grad_output_block(true, size, images, blocks.channels);
  BlockBuffer<T> scale_block(kScaled, size, images, blocks.channels);
  BlockBuffer<T> grad_feature_block(true, size, 1, blocks.channels);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / blocks.count, first = item % blocks.count * blocks.channels;
    const int64_t count = std::min(blocks.channels, size.channels - first);
    gather_rows<kScaled>(lists, count, grad_output_block.fill(grad_output, n, images, first, count),
                         scale_block.fill(scale, n, images, first, count), n * size.area(),
                         grad_feature_block.data(), n * size.area(), (n + 1) * size.area());
    grad_feature_block.empty(grad_feature, n, first, count);
  }
}

template <bool kScaled, typename T, typename F>
void grad_flow(const WarpBackward& params, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const WarpShape& shape = params.shape;
  const Size size = size_of(shape);
  const F* flow = static_cast<const F*>(params.flow);
  const T* feature = static_cast<const T*>(params.feature);
  const T* scale = static_cast<const T*>(params.scale);
  const T* grad_output = static_cast<const T*>(params.grad_output);
  T* grad_scale = static_cast<T*>(params.grad_scale);
  A* parts = params.grad_flow ? Workspace<A>(shape, params.workspace).parts : nullptr;
  if (shape.layout == Layout::kChannelsLast) {
    for_each_image(size.area(), begin, end, [&](int64_t n, int64_t from, int64_t to) {
      const int64_t map = n * size.channels * size.area(), flow_map = 2 * n * size.area();
      const auto taps = find_taps<T>(size, flow + flow_map, from, to);
      grad_flow_image<kScaled>(size, taps.get(), feature + (shape.feature_batch == 1 ? 0 : map),
                               kScaled ? scale + map : nullptr, grad_output + map,
                               parts ? parts + flow_map : nullptr,
                               grad_scale ? grad_scale + map : nullptr, from, to);
    });
    return;
  }
  const Blocks blocks = channel_blocks(shape, 1);
  BlockBuffer<T> feature_block(true, size, 1, blocks.channels);
  BlockBuffer<T> scale_block(kScaled, size, 1, blocks.channels);
  BlockBuffer<T> grad_output_block(true, size, 1, blocks.channels);
  BlockBuffer<T> grad_scale_block(grad_scale, size, 1, blocks.channels);
  std::unique_ptr<Taps<T>[]> taps;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / blocks.count, block = item % blocks.count;
    const int64_t first = block * blocks.channels;
    const int64_t count = std::min(blocks.channels, size.channels - first);
    if (first == 0 || item == begin) {
      taps = find_taps<T>(size, flow + 2 * n * size.area(), 0, size.area());
    }
    grad_flow_image<kScaled>(
        Size{count, size.height, size.width}, taps.get(),
        feature_block.fill(feature, shape.feature_batch == 1 ? 0 : n, 1, first, count),
        scale_block.fill(scale, n, 1, first, count),
        grad_output_block.fill(grad_output, n, 1, first, count),
        parts ? parts + 2 * (block * shape.batch + n) * size.area() : nullptr,
        grad_scale_block.data(), 0, size.area());
    grad_scale_block.empty(grad_scale, n, first, count);
  }
}

template <typename T, typename F>
void grad_flow_sum(const WarpBackward& params) {
  using A = accumulate_t<T>;
  const WarpShape& shape = params.shape;
  const A* parts = Workspace<A>(shape, params.workspace).parts;
  const int64_t count = 2 * shape.batch * shape.height * shape.width;
  const int64_t blocks = channel_blocks(shape, 1).count;
  for (int64_t i = 0; i < count; ++i) {
    A total = 0;
    for (int64_t block = 0; block < blocks; ++block) total += parts[block * count + i];
    static_cast<F*>(params.grad_flow)[i] = narrow<F>(static_cast<accumulate_t<F>>(total));
  }
}

// Calls f(T{}, F{}) with the element types of the maps and of the flow.
template <typename Function>
auto dispatch_types(const WarpShape& shape, Function f) {
  const bool same = shape.flow_dtype == shape.dtype;
  switch (shape.dtype) {
    case DType::kFloat64:
      return same ? f(double{}, double{}) : f(double{}, float{});
    case DType::kFloat16:
      return same ? f(Half{}, Half{}) : f(Half{}, float{});
    case DType::kBFloat16:
      return same ? f(BFloat16{}, BFloat16{}) : f(BFloat16{}, float{});
    default:
      return f(float{}, float{});
  }
}

WarpRange range_of(const WarpShape& shape, int64_t items_of_images, int64_t images_in_a_block) {
  const int64_t area = shape.height * shape.width;
  if (shape.layout == Layout::kContiguous) {
    return {items_of_images * channel_blocks(shape, images_in_a_block).count, 1};
  }
  // Below some 32K values the work is shorter than waking a thread.
  return {items_of_images * area, std::max<int64_t>(1, 32768 / shape.channels)};
}

}  // namespace

WarpRange warp_forward_range(const WarpShape& shape) { return range_of(shape, shape.batch, 1); }

void warp_forward(const WarpForward& params, int64_t begin, int64_t end) {
  dispatch_types(params.shape, [&](auto t, auto f) {
    using T = decltype(t);
    using F = decltype(f);
    params.scale ? forward<true, T, F>(params, begin, end)
                 : forward<false, T, F>(params, begin, end);
  });
}

int64_t warp_backward_workspace(const WarpShape& shape) {
  return dispatch_types(
      shape, [&](auto t, auto) { return Workspace<accumulate_t<decltype(t)>>::bytes(shape); });
}

void warp_link(const WarpBackward& params) {
  dispatch_types(params.shape, [&](auto t, auto f) { link<decltype(t), decltype(f)>(params); });
}

WarpRange warp_grad_feature_range(const WarpShape& shape) {
  return range_of(shape, shape.feature_batch, shape.feature_batch == 1 ? shape.batch : 1);
}

void warp_grad_feature(const WarpBackward& params, int64_t begin, int64_t end) {
  dispatch_types(params.shape, [&](auto t, auto) {
    using T = decltype(t);
    params.scale ? grad_feature<true, T>(params, begin, end)
                 : grad_feature<false, T>(params, begin, end);
  });
}

WarpRange warp_grad_flow_range(const WarpShape& shape) { return range_of(shape, shape.batch, 1); }

void warp_grad_flow(const WarpBackward& params, int64_t begin, int64_t end) {
  dispatch_types(params.shape, [&](auto t, auto f) {
    using T = decltype(t);
    using F = decltype(f);
    params.scale ? grad_flow<true, T, F>(params, begin, end)
                 : grad_flow<false, T, F>(params, begin, end);
  });
}

void warp_grad_flow_sum(const WarpBackward& params) {
  dispatch_types(params.shape,
                 [&](auto t, auto f) { grad_flow_sum<decltype(t), decltype(f)>(params); });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
