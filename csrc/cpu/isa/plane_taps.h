// Where the pixels of a contiguous map's warp read, found once for all channels. A vector holds
// adjacent pixels there; as neighbours mostly move alike, most vectors read neighbours.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "../../kernels/bilinear.h"
#include "maps.h"

namespace hpvod {
namespace HPVOD_ISA {

// What a vector of pixels reads of a plane at each corner.
enum class Reads : uint8_t {
  kNeighbours,  // a vector of it
  kSomeInside,  // a vector of it, of which lanes lie outside the map
  kTwoRuns,     // two vectors of it, the second for the lanes after a step of the flow
  kScattered,   // pixels anywhere
};

// The taps of an image's pixels, in memory of the caller's. Lanes beyond the last pixel read
// nothing, as if they were outside the map.
template <typename T>
class PlaneTaps {
  using A = accumulate_t<T>;

  struct Starts {  // of the runs that a vector reads at each corner
    int32_t first[4];
    int32_t second[4];
  };

 public:
  static int64_t vectors(int64_t area) { return (area + kLanes<T> - 1) / kLanes<T>; }

  // Of an image, and so many that values of any type may follow.
  static int64_t bytes(int64_t area) {
    const int64_t lane = 2 * sizeof(A) + 8 * sizeof(Bits<T>) + 4 * sizeof(int32_t);
    const int64_t all = vectors(area) * (kLanes<T> * lane + sizeof(Starts) + sizeof(Reads));
    constexpr int64_t kAlignment = alignof(std::max_align_t);
    return (all + kAlignment - 1) / kAlignment * kAlignment;
  }

  PlaneTaps(const Size& size, char* memory)
      : size_(size),
        pixels_(vectors(size.area()) * kLanes<T>),
        fractions_(reinterpret_cast<A*>(memory)),
        inside_(reinterpret_cast<Bits<T>*>(fractions_ + 2 * pixels_)),
        second_(inside_ + 4 * pixels_),
        places_(reinterpret_cast<int32_t*>(second_ + 4 * pixels_)),
        starts_(reinterpret_cast<Starts*>(places_ + 4 * pixels_)),
        reads_(reinterpret_cast<Reads*>(starts_ + vectors(size.area()))) {}

  // Of the pixels [begin, end), whole vectors but at the image's end. flow is that of the image,
  // [2, H, W].
  template <typename F>
  void find(const F* flow, int64_t begin, int64_t end) {
    const int width = static_cast<int>(size_.width), height = static_cast<int>(size_.height);
    int y = static_cast<int>(begin / width), x = static_cast<int>(begin % width);
    for (int64_t first = begin; first < end; first += kLanes<T>) {
      Corners corners = {};
      A fractions[2][kLanes<T>] = {};
      for (int64_t i = 0; i < std::min<int64_t>(kLanes<T>, end - first); ++i) {
        const A flow_x = static_cast<A>(widen(flow[first + i]));
        const A flow_y = static_cast<A>(widen(flow[size_.area() + first + i]));
        const auto taps = bilinear_taps<A>(x, y, flow_x, flow_y, width, height);
        fractions[0][i] = taps.fraction_x, fractions[1][i] = taps.fraction_y;
        for (int k = 0; k < 4; ++k) {
          if (!(taps.inside >> k & 1)) continue;
          corners.inside[k][i] = -1;
          corners.place[k][i] = (taps.y + (k >> 1)) * width + taps.x + (k & 1);
        }
        if (++x == width) x = 0, ++y;
      }
      for (int k = 0; k < 2; ++k) {
        std::copy_n(fractions[k], kLanes<T>, fractions_ + k * pixels_ + first);
      }
      reads_[first / kLanes<T>] = keep(corners, first / kLanes<T>);
    }
  }

  // Prepares for_each_vector, once all is found: cuts the image into tiles of so many vectors.
  void sort(int64_t tile) {
    const int64_t all = vectors(size_.area());
    for (int64_t first = 0; first < all; first += tile) {
      for (const Reads reads :
           {Reads::kNeighbours, Reads::kSomeInside, Reads::kTwoRuns, Reads::kScattered}) {
        for (int64_t vector = first; vector < std::min(first + tile, all); ++vector) {
          if (reads_[vector] == reads) order_.push_back(static_cast<int32_t>(vector));
        }
        ends_.push_back(static_cast<int32_t>(order_.size()));
      }
    }
  }

  // Calls function(at, p, count) for the vectors of pixels [p, p + count) of a tile. Those that
  // read alike follow one another: in the order of their pixels, the processor would often guess
  // wrong what the next one does.
  template <typename Function>
  HPVOD_INLINE void for_each_vector(int64_t tile, Function function) const {
    for_each_alike<Reads::kNeighbours>(tile, function);
    for_each_alike<Reads::kSomeInside>(tile, function);
    for_each_alike<Reads::kTwoRuns>(tile, function);
    for_each_alike<Reads::kScattered>(tile, function);
  }

 private:
  // The taps of one vector, which stay in registers over many planes.
  template <Reads kReads>
  class At {
   public:
    static constexpr bool kFull = kReads == Reads::kNeighbours;  // every lane is a pixel

    HPVOD_INLINE At(const PlaneTaps& taps, int64_t vector) {
      const int64_t pixels = taps.pixels_, first = vector * kLanes<T>;
      const Vector<T> x = load<A>(taps.fractions_ + first),
                      y = load<A>(taps.fractions_ + pixels + first);
      const Vector<T> columns[2] = {1 - x, x}, rows[2] = {1 - y, y};
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        weights_[k] = columns[k & 1] * rows[k >> 1];
        const int64_t at = k * pixels + first;
        if constexpr (kReads == Reads::kScattered) {
          places_[k] = taps.places_ + at;
        } else {
          start_[k] = taps.starts_[vector].first[k];
        }
        if constexpr (kReads == Reads::kTwoRuns) {
          second_start_[k] = taps.starts_[vector].second[k];
          memcpy(&second_[k], taps.second_ + at, sizeof(second_[k]));
        }
        if constexpr (!kFull) memcpy(&inside_[k], taps.inside_ + at, sizeof(inside_[k]));
      }
    }

    // What the taps make of a plane.
    HPVOD_INLINE Vector<T> warped(const T* plane) const {
      Vector<T> sum = weights_[0] * corner(plane, 0);
#pragma GCC unroll 3
      for (int k = 1; k < 4; ++k) sum = multiply_add(weights_[k], corner(plane, k), sum);
      return sum;
    }

   private:
    // What corner k reads of a plane; outside it is 0.
    HPVOD_INLINE Vector<T> corner(const T* plane, int k) const {
      Vector<T> values = {};
      if constexpr (kReads == Reads::kScattered) {
        values = gather(plane, places_[k]);
      } else {
        values = load(plane + start_[k]);
      }
      if constexpr (kFull) return values;
      if constexpr (kReads == Reads::kTwoRuns) {
        values = second_[k] ? load(plane + second_start_[k]) : values;
      }
      // Cleared and not given weight 0: what is read instead may not be finite.
      const BitVector<T> bits = bit_cast<BitVector<T>>(values) & inside_[k];
      return bit_cast<Vector<T>>(bits);
    }

    Vector<T> weights_[4];
    const int32_t* places_[4];
    int64_t start_[4];
    int64_t second_start_[4];
    BitVector<T> inside_[4];
    BitVector<T> second_[4];
  };

  template <Reads kReads, typename Function>
  HPVOD_INLINE void for_each_alike(int64_t tile, Function function) const {
    const int64_t area = size_.area(), list = 4 * tile + static_cast<int>(kReads);
    for (int64_t i = list > 0 ? ends_[list - 1] : 0; i < ends_[list]; ++i) {
      const int64_t vector = order_[i], p = vector * kLanes<T>;
      const At<kReads> at(*this, vector);
      function(at, p, at.kFull ? kLanes<T> : std::min<int64_t>(kLanes<T>, area - p));
    }
  }

  // What the lanes of a vector read at each corner.
  struct Corners {
    Bits<T> inside[4][kLanes<T>];
    int32_t place[4][kLanes<T>];  // 0 outside
  };

  // Stores of a vector's corners what reading them needs.
  Reads keep(const Corners& corners, int64_t vector) {
    Starts& starts = starts_[vector] = {};
    Bits<T> second[4][kLanes<T>] = {};
    const Reads reads = find_runs(corners, &starts, second);
    for (int k = 0; k < 4; ++k) {
      const int64_t first = k * pixels_ + vector * kLanes<T>;
      if (reads != Reads::kNeighbours) std::copy_n(corners.inside[k], kLanes<T>, inside_ + first);
      if (reads == Reads::kTwoRuns) std::copy_n(second[k], kLanes<T>, second_ + first);
      if (reads == Reads::kScattered) std::copy_n(corners.place[k], kLanes<T>, places_ + first);
    }
    return reads;
  }

  Reads find_runs(const Corners& corners, Starts* starts, Bits<T> (&second)[4][kLanes<T>]) const {
    const int64_t area = size_.area();
    bool all_inside = true, one_run = true;
    for (int k = 0; k < 4; ++k) {
      int runs = 0;
      for (int i = 0; i < kLanes<T>; ++i) {
        if (!corners.inside[k][i]) {
          all_inside = false;
          continue;
        }
        const int32_t start = corners.place[k][i] - i;
        if (start < 0 || start + kLanes<T> > area) return Reads::kScattered;
        if (runs == 0) starts->first[k] = start, runs = 1;
        if (start == starts->first[k]) continue;
        if (runs == 1) starts->second[k] = start, runs = 2;
        if (start != starts->second[k]) return Reads::kScattered;
        second[k][i] = -1;
      }
      one_run &= runs < 2;
    }
    if (area < kLanes<T>) return Reads::kScattered;  // not even a corner outside reads a vector
    return !one_run ? Reads::kTwoRuns : all_inside ? Reads::kNeighbours : Reads::kSomeInside;
  }

  const Size size_;
  const int64_t pixels_;   // of whole vectors
  A* const fractions_;     // [2, pixels]: of columns, of rows
  Bits<T>* const inside_;  // [4, pixels]: of all bits 1, or 0
  Bits<T>* const second_;  // [4, pixels]: likewise, where two runs are read and it is the second
  int32_t* const places_;  // [4, pixels]
  Starts* const starts_;   // [vectors]
  Reads* const reads_;     // [vectors]
  std::vector<int32_t> order_;  // the vectors of each tile, by what they read
  std::vector<int32_t> ends_;   // [tiles, 4], in order_
};

}  // namespace HPVOD_ISA
}  // namespace hpvod
