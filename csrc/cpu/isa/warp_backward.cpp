// warp, backward. The gradient of the feature gathers rather than scatters: every feature pixel
// adds up the output pixels that read it, so that no two threads add to the same value.
#include <algorithm>
#include <memory>

#include "../warp.h"
#include "maps.h"
#include "taps.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

// Pixels [begin, end) of one image in channels_last, [H, W, C].
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
      const Vector<T> gradient = load(grad_output + row + c, count);
      const Vector<T> scaled = kScaled ? gradient * load(scale + row + c, count) : gradient;
      Vector<T> warped = {};
      for (int k = 0; k < 4; ++k) {
        const Vector<T> value = load(tap.row[k] + c, count);
        sums[k] += scaled * value;
        if (kScaled) warped += taps.weight[k] * value;
      }
      if (kScaled && grad_scale) store(grad_scale + row + c, gradient * warped, count);
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

// The gradient of one feature pixel, `kVectors` vectors of channels from channel c on. Row `pixel -
// first_pixel` of grad_output and scale, each `channels` long, belongs to an output pixel.
template <bool kScaled, int kVectors, typename T>
HPVOD_INLINE void gather(const Links<accumulate_t<T>>& lists, int64_t source, int64_t channels,
                         const T* grad_output, const T* scale, int64_t first_pixel, int64_t c,
                         int64_t count, Vector<T> (&total)[kVectors]) {
  for (int u = 0; u < kVectors; ++u) total[u] = Vector<T>{};
  const auto* last = lists.links + lists.start[source + 1];
  for (const auto* link = lists.links + lists.start[source]; link != last; ++link) {
    const int64_t row = (link->pixel - first_pixel) * channels + c;
    for (int u = 0; u < kVectors; ++u) {
      Vector<T> gradient = load(grad_output + row + u * kLanes<T>, count);
      if (kScaled) gradient *= load(scale + row + u * kLanes<T>, count);
      total[u] += link->weight * gradient;
    }
  }
}

template <bool kScaled, typename T>
void gather_rows(const Links<accumulate_t<T>>& lists, int64_t channels, const T* grad_output,
                 const T* scale, T* grad_feature, int64_t begin, int64_t end) {
  for (int64_t source = begin; source < end; ++source) {
    T* target = grad_feature + source * channels;
    const auto group = [&](int64_t c) {
      Vector<T> total[kUnroll];
      gather<kScaled>(lists, source, channels, grad_output, scale, 0, c, kLanes<T>, total);
      for (int u = 0; u < kUnroll; ++u) store(target + c + u * kLanes<T>, total[u]);
    };
    const auto single = [&](int64_t c, int64_t count) {
      Vector<T> total[1];
      gather<kScaled>(lists, source, channels, grad_output, scale, 0, c, count, total);
      store(target + c, total[0], count);
    };
    for_each_vector<T>(channels, group, single);
  }
}

// One image of a contiguous map, whose gradient is written to its planes.
template <bool kScaled, typename T>
void gather_planes(const Links<accumulate_t<T>>& lists, const Size& size, int64_t first_pixel,
                   const T* grad_output, const T* scale, T* grad_feature) {
  for_each_square<T>(
      size,
      [&](int64_t pixel, int64_t c, int64_t count) {
        Vector<T> total[1];
        gather<kScaled>(lists, first_pixel + pixel, size.channels, grad_output, scale, first_pixel,
                        c, count, total);
        return total[0];
      },
      [&](int64_t channel, int64_t pixel, int64_t count, Vector<T> value) {
        store(grad_feature + channel * size.area() + pixel, value, count);
      });
}

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
    gather_rows<kScaled>(lists, size.channels, grad_output, scale, grad_feature, begin, end);
    return;
  }
  const int64_t images = shape.feature_batch == 1 ? shape.batch : 1;  // that share a feature
  const Blocks blocks = channel_blocks(shape, images);
  BlockBuffer<T> grad_output_block(true, size, images, blocks.channels);
  BlockBuffer<T> scale_block(kScaled, size, images, blocks.channels);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / blocks.count, first = item % blocks.count * blocks.channels;
    const int64_t count = std::min(blocks.channels, size.channels - first);
    gather_planes<kScaled>(lists, Size{count, size.height, size.width}, n * size.area(),
                           grad_output_block.fill(grad_output, n, images, first, count),
                           scale_block.fill(scale, n, images, first, count),
                           grad_feature + (n * size.channels + first) * size.area());
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

}  // namespace

int64_t warp_backward_workspace(const WarpShape& shape) {
  return dispatch_types(shape.dtype, shape.flow_dtype, [&](auto t, auto) {
    return Workspace<accumulate_t<decltype(t)>>::bytes(shape);
  });
}

void warp_link(const WarpBackward& params) {
  dispatch_types(params.shape.dtype, params.shape.flow_dtype,
                 [&](auto t, auto f) { link<decltype(t), decltype(f)>(params); });
}

Range warp_grad_feature_range(const WarpShape& shape) {
  return range_of(shape, shape.feature_batch, shape.feature_batch == 1 ? shape.batch : 1);
}

void warp_grad_feature(const WarpBackward& params, int64_t begin, int64_t end) {
  dispatch_types(params.shape.dtype, params.shape.flow_dtype, [&](auto t, auto) {
    using T = decltype(t);
    params.scale ? grad_feature<true, T>(params, begin, end)
                 : grad_feature<false, T>(params, begin, end);
  });
}

Range warp_grad_flow_range(const WarpShape& shape) { return range_of(shape, shape.batch, 1); }

void warp_grad_flow(const WarpBackward& params, int64_t begin, int64_t end) {
  dispatch_types(params.shape.dtype, params.shape.flow_dtype, [&](auto t, auto f) {
    using T = decltype(t);
    using F = decltype(f);
    params.scale ? grad_flow<true, T, F>(params, begin, end)
                 : grad_flow<false, T, F>(params, begin, end);
  });
}

void warp_grad_flow_sum(const WarpBackward& params) {
  dispatch_types(params.shape.dtype, params.shape.flow_dtype,
                 [&](auto t, auto f) { grad_flow_sum<decltype(t), decltype(f)>(params); });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
