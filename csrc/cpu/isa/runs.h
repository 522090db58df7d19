// Contiguous maps in runs: a channel is a plane there, so the lanes of a register hold adjacent
// pixels, and a run of them is taken through all channels.
#pragma once

#include <algorithm>

#include "../range.h"
#include "maps.h"

namespace hpvod {
namespace HPVOD_ISA {

constexpr int64_t kPiece = 256;  // pixels at most
constexpr int64_t kPieces = 5;   // of a run at most: many, for every plane lies on pages of its own
constexpr int64_t kRun = kPieces * kPiece;
constexpr int64_t kAligned = 16;  // a piece is a multiple of it, of whole vectors in all dtypes

// How far ahead in its plane a line is asked for. A vector of each of many planes is read and
// written in turn: more lines than the hardware foresees.
template <typename T>
constexpr int64_t kFetched = 256 / static_cast<int64_t>(sizeof(T));

// How a plane of `area` pixels is cut: into pieces of one size, for equal shares of many threads.
struct Pieces {
  int64_t pixels;  // of a piece; the last may be shorter
  int64_t count;

  explicit Pieces(int64_t area) {
    const int64_t parts = (area + kPiece - 1) / kPiece;
    const int64_t least = (area + parts - 1) / parts;
    pixels = (least + kAligned - 1) / kAligned * kAligned;
    count = (area + pixels - 1) / pixels;
  }
};

// The pieces of all images' planes.
inline Range range_of_pieces(int64_t images, int64_t area) {
  return {images * Pieces(area).count, 1, kPieces};
}

// Calls compute(image, first, pixels) for runs of the pieces [begin, end) of all images' planes.
template <typename Compute>
void for_each_run(int64_t area, int64_t begin, int64_t end, Compute compute) {
  const Pieces pieces(area);
  while (begin < end) {
    const int64_t piece = begin % pieces.count;
    const int64_t left = std::min(end - begin, pieces.count - piece);
    const int64_t runs = (left + kPieces - 1) / kPieces, joined = (left + runs - 1) / runs;
    const int64_t first = piece * pieces.pixels;
    compute(begin / pieces.count, first, std::min(joined * pieces.pixels, area - first));
    begin += joined;
  }
}

// Calls vector(pixel, count) for the vectors of a run.
template <typename T, typename Function>
HPVOD_INLINE void for_each_pixel(int64_t pixels, Function vector) {
  int64_t p = 0;
  for (; p + kLanes<T> <= pixels; p += kLanes<T>) vector(p, kLanes<T>);
  if (p < pixels) vector(p, pixels - p);
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
