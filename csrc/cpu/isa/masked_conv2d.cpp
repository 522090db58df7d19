// masked_conv2d: an indirect convolution. What a pixel reads is a row of channels for each tap of
// the kernel, found through a table of pointers; so listed pixels lie side by side in the loops
// however they lie in the map, and nothing is copied.
//
// The sums of kRows pixels and a panel of output channels stay in registers over a chunk of the
// depth (taps x input channels). A chunk of a panel's weights stays near while the tiles of a block
// of pixels pass over it (a little more than the first-level cache holds does no harm, for the
// loop reads them in order), and the block's rows in the second-level cache while the panels do.
// Between chunks, sums lie in the output itself, or where that is narrower than the sums, in a
// buffer. A chunk of which a tile's pixels read nothing that is inside the map is left out.
#include "../masked_conv2d.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "masked_conv2d_tile.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

constexpr int64_t kMostTiles = 24;  // of a block
// Of a panel's weights. With AVX-512 a step's multiplications take long enough to read its weights
// from the second-level cache, and a longer chunk has fewer ends: a 3x3 of 64 channels has one.
constexpr int64_t kChunkBytes = kVectorBytes == 64 ? 160 << 10 : 40 << 10;

constexpr int64_t kCachedWeights = 256 << 10;  // that stay in a second-level cache

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The part of the depth that is summed in one go: `taps` whole taps, or a part of one.
struct Chunk {
  int64_t tap;
  int64_t taps;
  int64_t channel;  // of the tap
  int64_t depth;    // channels of each tap
};

template <typename T>
constexpr int64_t kMostDepth =
    kChunkBytes / (kPanel<T> * static_cast<int64_t>(sizeof(accumulate_t<T>)));

// How many taps side by side are read as one: their pixels lie side by side in memory, and every
// tap costs a few instructions beside its channels'. Where the kernel reaches over the left or the
// right border, a copy is read.
template <typename T>
int64_t joined_taps(const MaskedConv2dShape& shape) {
  const bool joins = shape.dilation == 1 && shape.kernel_width * shape.in_channels <= kMostDepth<T>;
  return joins ? shape.kernel_width : 1;
}

template <typename T>
std::vector<Chunk> chunks_of(int64_t taps, int64_t channels) {
  constexpr int64_t most = kMostDepth<T>;
  std::vector<Chunk> chunks;
  if (channels > most) {
    // In whole cache lines.
    constexpr int64_t line = kLine / static_cast<int64_t>(sizeof(T));
    const int64_t depth =
        ceil_divide(ceil_divide(channels, ceil_divide(channels, most)), line) * line;
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t c = 0; c < channels; c += depth) {
        chunks.push_back({tap, 1, c, std::min(depth, channels - c)});
      }
    }
  } else {
    const int64_t at_once = std::max<int64_t>(1, most / std::max<int64_t>(1, channels));
    const int64_t group = ceil_divide(taps, ceil_divide(taps, at_once));
    for (int64_t tap = 0; tap < taps; tap += group) {
      chunks.push_back({tap, std::min(group, taps - tap), 0, channels});
    }
  }
  return chunks;
}

// How the work is cut: into blocks of tiles of pixels, and groups of panels of output channels. An
// item is a panel of a group and block; they are numbered group by group, and in each block by
// block. Where all weights stay in a second-level cache, there is one group, and a block's rows are
// read once. Else weights are most of what is read for few pixels: by groups, every thread reads
// its own part of them.
struct Cut {
  int64_t panels;
  int64_t panels_of_group;
  int64_t tiles_of_block;
  int64_t blocks;

  int64_t items() const { return ceil_divide(panels, panels_of_group) * items_of_group(); }

  // Calls compute(block, panel, panel_end) for the items [begin, end).
  template <typename Compute>
  void for_each(int64_t begin, int64_t end, Compute compute) const {
    while (begin < end) {
      const int64_t group = begin / items_of_group(), within = begin % items_of_group();
      const int64_t whole = within == 0 ? (end - begin) / items_of_group() : 0;
      const int64_t first = group * panels_of_group;
      if (whole) {  // groups together, so that they read rows once
        const int64_t last = std::min(panels, first + whole * panels_of_group);
        for (int64_t b = 0; b < blocks; ++b) compute(b, first, last);
        begin += whole * items_of_group();
      } else {
        const int64_t b = within / panels_of_group, panel = within % panels_of_group;
        const int64_t count = std::min(end - begin, panels_of_group - panel);
        const int64_t last = std::min(panels, first + panel + count);
        if (first + panel < last) compute(b, first + panel, last);
        begin += count;
      }
    }
  }

 private:
  int64_t items_of_group() const { return blocks * panels_of_group; }
};

template <typename T>
Cut cut_of(const MaskedConv2d& params) {
  const MaskedConv2dShape& shape = params.shape;
  const int64_t tiles = ceil_divide(*params.count, kRows);
  const int64_t blocks = ceil_divide(tiles, kMostTiles);
  const int64_t panels = ceil_divide(shape.out_channels, kPanel<T>);
  const int64_t weights = panels * kPanel<T> * shape.in_channels * shape.kernel_height *
                          shape.kernel_width * static_cast<int64_t>(sizeof(accumulate_t<T>));
  // The rows of a block overlap but for a kernel of 1x1.
  const int64_t group = weights <= kCachedWeights ? panels : shape.kernel_width > 1 ? 4 : 8;
  return {panels, std::max<int64_t>(1, std::min(group, panels)),
          blocks ? ceil_divide(tiles, blocks) : 0, blocks};
}

template <typename T>
class Block {
 public:
  using A = accumulate_t<T>;
  static constexpr bool kSame = std::is_same_v<T, A>;

  explicit Block(const MaskedConv2d& params)
      : params_(params),
        shape_(params.shape),
        joined_(joined_taps<T>(shape_)),
        taps_(shape_.kernel_height * shape_.kernel_width / joined_),
        channels_(joined_ * shape_.in_channels),
        chunks_(chunks_of<T>(taps_, channels_)),
        zeros_(new T[channels_]()),
        tiles_(new Tile<T>[kMostTiles]),
        rows_(new const T*[kMostTiles * taps_ * kRows]) {
    if (!kSame) {
      int64_t deepest = 0;
      for (const Chunk& chunk : chunks_) deepest = std::max(deepest, chunk.taps * chunk.depth);
      widened_.reset(new A[kMostTiles * kRows * deepest]);
      sums_.reset(new A[kMostTiles * kRows * shape_.out_channels]);
    }
    chunk_rows_.reset(new const A*[kMostTiles * taps_ * kRows]);
    if (joined_ > 1) borders_.reset(new T[kMostTiles * taps_ * kRows * channels_]);
  }

  // The pixels [first, first + count) of the list and the panels [panel, panel_end).
  void compute(int64_t first, int64_t count, int64_t panel, int64_t panel_end) {
    find_rows(first, count);
    const int64_t tiles = ceil_divide(count, kRows);
    const int64_t depth = taps_ * channels_;
    const A* weight = static_cast<const A*>(params_.weight);
    const auto weights_of = [&](size_t c, int64_t p) {
      return weight + (p * depth + chunks_[c].tap * channels_ + chunks_[c].channel) * kPanel<T>;
    };
    for (size_t c = 0; c < chunks_.size(); ++c) {
      const Chunk& chunk = chunks_[c];
      place_rows(chunk, tiles);
      for (int64_t p = panel; p < panel_end; ++p) {
        const int64_t channel = p * kPanel<T>;
        const A* weights = weights_of(c, p);
        const Epilogue<T> epilogue = epilogue_of(channel, chunk);
        const AddProducts<T> add = add_products_of<T>(epilogue.count);
        // Weights are read once a frame, from memory that is far away.
        const bool same_chunk = p + 1 < panel_end;
        const size_t next_chunk = same_chunk ? c : std::min(c + 1, chunks_.size() - 1);
        const char* next_weights =
            reinterpret_cast<const char*>(weights_of(next_chunk, same_chunk ? p + 1 : panel));
        const Chunk& next = chunks_[next_chunk];
        const int64_t bytes = next.taps * next.depth * kPanel<T> * int64_t{sizeof(A)};
        const bool brings_rows = p == panel;  // near, where the other panels find them
        const int64_t of_rows = brings_rows && !kFetchesTwo ? pairs_before(kRows, chunk.depth) : 0;
        const int64_t fetches = chunk.taps * (pairs_before(kParts, chunk.depth) - of_rows);
        const int64_t step =
            std::min(kLine, ceil_divide(bytes, std::max<int64_t>(1, tiles * fetches)));
        for (int64_t t = 0; t < tiles; ++t) {
          if (epilogue.first && t + 1 < tiles) fetch_outputs(tiles_[t + 1], channel);
          const A* const* rows = chunk_rows_.get() + t * chunk.taps * kRows;
          // What is outside the map adds nothing.
          const int64_t taps = reads_inside(chunk, t) ? chunk.taps : 0;
          if (taps == 0 && !epilogue.first && !epilogue.last) continue;
          const A* const* next_rows = t + 1 < tiles ? rows + chunk.taps * kRows : chunk_rows_.get();
          const Ahead<T> ahead{brings_rows ? next_rows : nullptr, next_weights + t * fetches * step,
                               step};
          add(rows, taps, chunk.depth, weights, tiles_[t], epilogue, channel, ahead);
        }
      }
    }
  }

 private:
  // The row that every pixel of the block reads for every tap.
  void find_rows(int64_t first, int64_t count) {
    for (int64_t t = 0; t * kRows < count; ++t) {
      Tile<T>& tile = tiles_[t];
      tile.rows = std::min<int64_t>(kRows, count - t * kRows);
      for (int64_t r = 0; r < kRows; ++r) {
        const int64_t index = t * kRows + std::min(r, tile.rows - 1);
        const int64_t pixel = params_.pixels[first + index];
        const int64_t line = pixel / shape_.out_width;
        const int64_t n = line / shape_.out_height;
        const int64_t top = line % shape_.out_height * shape_.stride - shape_.padding;
        const int64_t left = pixel % shape_.out_width * shape_.stride - shape_.padding;
        tile.pixel[r] = pixel;
        tile.sums[r] = kSame ? reinterpret_cast<A*>(static_cast<T*>(params_.output) +
                                                    pixel * shape_.out_channels)
                             : sums_.get() + index * shape_.out_channels;
        int64_t place = t * taps_ * kRows + r;
        for (int64_t ky = 0; ky < shape_.kernel_height; ++ky) {
          for (int64_t kx = 0; kx < shape_.kernel_width; kx += joined_, place += kRows) {
            rows_[place] =
                row_at(n, top + ky * shape_.dilation, left + kx * shape_.dilation, place);
          }
        }
      }
    }
  }

  // The channels of the joined pixels from (y, x) on; zeros outside the map.
  HPVOD_INLINE const T* row_at(int64_t n, int64_t y, int64_t x, int64_t place) {
    const int64_t width = shape_.in_width;
    if (y < 0 || y >= shape_.in_height || x + joined_ <= 0 || x >= width) return zeros_.get();
    const T* line = static_cast<const T*>(params_.input) +
                    (n * shape_.in_height + y) * width * shape_.in_channels;
    if (x >= 0 && x + joined_ <= width) return line + x * shape_.in_channels;
    const int64_t from = std::max<int64_t>(x, 0), to = std::min(x + joined_, width);
    T* copy = borders_.get() + place * channels_;
    std::fill_n(copy, channels_, T{});
    std::copy(line + from * shape_.in_channels, line + to * shape_.in_channels,
              copy + (from - x) * shape_.in_channels);
    return copy;
  }

  // Whether a tap of the chunk is inside the map for a pixel of the tile.
  HPVOD_INLINE bool reads_inside(const Chunk& chunk, int64_t tile) const {
    const T* const* rows = rows_.get() + (tile * taps_ + chunk.tap) * kRows;
    return std::any_of(rows, rows + chunk.taps * kRows,
                       [&](const T* row) { return row != zeros_.get(); });
  }

  // Neighbours in a panel are far apart in memory, so no hardware foresees these accesses.
  HPVOD_INLINE void fetch_outputs(const Tile<T>& tile, int64_t channel) const {
    const T* residual = static_cast<const T*>(params_.residual);
    T* output = static_cast<T*>(params_.output);
    for (int r = 0; r < kRows; ++r) {
      const int64_t place = tile.pixel[r] * shape_.out_channels + channel;
      for (int64_t c = 0; c < kPanel<T>; c += kLine / static_cast<int64_t>(sizeof(T))) {
        __builtin_prefetch(output + place + c, 1);
        if (residual && residual != output) __builtin_prefetch(residual + place + c);
      }
    }
  }

  // The same, from the chunk's first channel on, and in the type of the sums.
  void place_rows(const Chunk& chunk, int64_t tiles) {
    for (int64_t t = 0; t < tiles; ++t) {
      const T* const* rows = rows_.get() + (t * taps_ + chunk.tap) * kRows;
      const A** placed = chunk_rows_.get() + t * chunk.taps * kRows;
      for (int64_t i = 0; i < chunk.taps * kRows; ++i) {
        if constexpr (kSame) {
          placed[i] = rows[i] + chunk.channel;
        } else {
          A* wide = widened_.get() + (t * chunk.taps * kRows + i) * chunk.depth;
          for (int64_t c = 0; c < chunk.depth; c += kLanes<T>) {
            const int64_t count = std::min<int64_t>(kLanes<T>, chunk.depth - c);
            store(wide + c, load(rows[i] + chunk.channel + c, count), count);
          }
          placed[i] = wide;
        }
      }
    }
  }

  Epilogue<T> epilogue_of(int64_t channel, const Chunk& chunk) const {
    const A* bias = static_cast<const A*>(params_.bias);
    const T* residual = static_cast<const T*>(params_.residual);
    const Chunk& last = chunks_.back();
    return {bias ? bias + channel : nullptr,
            residual ? residual + channel : nullptr,
            static_cast<T*>(params_.output) + channel,
            shape_.out_channels,
            std::min<int64_t>(kPanel<T>, shape_.out_channels - channel),
            chunk.tap == 0 && chunk.channel == 0,
            chunk.tap == last.tap && chunk.channel == last.channel,
            params_.relu};
  }

  const MaskedConv2d& params_;
  const MaskedConv2dShape& shape_;
  const int64_t joined_;    // taps of the kernel in one of ours
  const int64_t taps_;      // ours
  const int64_t channels_;  // of one of ours
  const std::vector<Chunk> chunks_;
  const std::unique_ptr<T[]> zeros_;  // what a tap outside the map reads
  const std::unique_ptr<Tile<T>[]> tiles_;
  const std::unique_ptr<const T*[]> rows_;  // [tiles, taps, kRows]
  std::unique_ptr<const A*[]> chunk_rows_;  // [tiles, taps of the chunk, kRows]
  std::unique_ptr<T[]> borders_;  // [tiles, taps, kRows, channels]: rows that are not all inside
  std::unique_ptr<A[]> widened_;
  std::unique_ptr<A[]> sums_;  // [tiles * kRows, O]
};

template <typename T>
void convolve(const MaskedConv2d& params, int64_t begin, int64_t end) {
  const Cut cut = cut_of<T>(params);
  const int64_t count = *params.count;
  Block<T> block(params);
  const int64_t size = cut.tiles_of_block * kRows;
  cut.for_each(begin, end, [&](int64_t b, int64_t panel, int64_t panel_end) {
    block.compute(b * size, std::min(size, count - b * size), panel, panel_end);
  });
}

template <typename T>
void pack(const PackConv2dWeight& params) {
  using A = accumulate_t<T>;
  const T* weight = static_cast<const T*>(params.weight);
  A* packed = static_cast<A*>(params.packed);
  for (int64_t panel = 0; panel < params.out_channels; panel += kPanel<T>) {
    for (int64_t tap = 0; tap < params.taps; ++tap) {
      for (int64_t c = 0; c < params.in_channels; ++c) {
        for (int64_t o = panel; o < panel + kPanel<T>; ++o) {
          *packed++ = o < params.out_channels
                          ? widen(weight[(o * params.in_channels + c) * params.taps + tap])
                          : A{0};
        }
      }
    }
  }
}

}  // namespace

int64_t packed_conv2d_weight_size(DType dtype, int64_t out_channels, int64_t depth) {
  return dispatch_type(dtype, [&](auto t) {
    constexpr int64_t panel = kPanel<decltype(t)>;
    return ceil_divide(out_channels, panel) * panel * depth;
  });
}

void pack_conv2d_weight(const PackConv2dWeight& params) {
  dispatch_type(params.dtype, [&](auto t) { pack<decltype(t)>(params); });
}

Range masked_conv2d_range(const MaskedConv2d& params) {
  return dispatch_type(params.shape.dtype, [&](auto t) {
    using T = decltype(t);
    const Cut cut = cut_of<T>(params);
    const int64_t work = cut.tiles_of_block * kRows * kPanel<T> * params.shape.kernel_height *
                         params.shape.kernel_width * params.shape.in_channels;
    // Half a million multiplications take longer than waking a thread.
    return Range{cut.items(), std::max<int64_t>(1, (1 << 19) / std::max<int64_t>(1, work)),
                 cut.panels_of_group};
  });
}

void masked_conv2d(const MaskedConv2d& params, int64_t begin, int64_t end) {
  dispatch_type(params.shape.dtype, [&](auto t) { convolve<decltype(t)>(params, begin, end); });
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
