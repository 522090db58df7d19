// batched_nms: the candidates in their order, each against the kept boxes, a vector of these at a
// time. Compiled without fused multiply-adds, which decide some pairs of boxes in another way.
#include "../batched_nms.h"

#include <algorithm>

#include "vector.h"

namespace hpvod {
namespace HPVOD_ISA {
namespace {

using Floats = Vector<float>;
using Integers = VectorOf<int32_t, kLanes<float>>::type;

// Vectors that are tested before it is asked whether one of them has found something.
constexpr int kBlock = 4;
constexpr int64_t kBlockBoxes = kBlock * kLanes<float>;

HPVOD_INLINE Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
HPVOD_INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }

// Whether a lane is not 0.
HPVOD_INLINE bool any(Integers lanes) {
#if defined(__AVX512F__)
  const auto bits = bit_cast<__m512i>(lanes);
  return _mm512_test_epi32_mask(bits, bits) != 0;
#elif defined(__AVX2__)
  const auto bits = bit_cast<__m256i>(lanes);
  return !_mm256_testz_si256(bits, bits);
#else
  const auto halves = bit_cast<VectorOf<int64_t, kVectorBytes / 8>::type>(lanes);
  return (halves[0] | halves[1]) != 0;
#endif
}

struct Box {
  float left, top, right, bottom;  // right and bottom lie one behind the last pixel
  float area;
  int64_t label;
};

HPVOD_INLINE Box box_at(const float* corners, int64_t label) {
  const float right = corners[2] + 1, bottom = corners[3] + 1;
  const float area = (right - corners[0]) * (bottom - corners[1]);
  return {corners[0], corners[1], right, bottom, area, label};
}

// How many boxes an image's part of the workspace has places for.
HPVOD_INLINE int64_t places_of(const BatchedNms& params) {
  const int64_t most = std::min(params.count, params.candidates);
  return (most + kBlockBoxes - 1) / kBlockBoxes * kBlockBoxes;
}

// Field by field, in the workspace. A place without a box overlaps nothing, its area being NaN.
class KeptBoxes {
 public:
  static constexpr int64_t kFields = 7;  // of four bytes

  HPVOD_INLINE KeptBoxes(float* memory, int64_t places) {
    float** fields[] = {&left_, &top_, &right_, &bottom_, &area_, &low_, &high_};
    for (float** field : fields) {
      *field = memory;
      memory += places;
    }
  }

  HPVOD_INLINE void add(const Box& box) {
    if (number_ % kBlockBoxes == 0) {
      for (float* field : {left_, top_, right_, bottom_, low_, high_}) {
        std::fill_n(field + number_, kBlockBoxes, 0.0f);
      }
      std::fill_n(area_ + number_, kBlockBoxes, __builtin_nanf(""));
    }
    left_[number_] = box.left;
    top_[number_] = box.top;
    right_[number_] = box.right;
    bottom_[number_] = box.bottom;
    area_[number_] = box.area;
    const int32_t halves[] = {low_half(box.label), high_half(box.label)};
    memcpy(low_ + number_, &halves[0], sizeof(int32_t));
    memcpy(high_ + number_, &halves[1], sizeof(int32_t));
    ++number_;
  }

  HPVOD_INLINE bool suppress(const Box& box, float threshold) const {
    const int32_t low = low_half(box.label), high = high_half(box.label);
    for (int64_t first = 0; first < number_; first += kBlockBoxes) {
      Integers found{};
#pragma GCC unroll 4
      for (int k = 0; k < kBlock; ++k) {
        const int64_t place = first + k * kLanes<float>;
        const Floats width = smaller(load(right_ + place), Floats{} + box.right) -
                             larger(load(left_ + place), Floats{} + box.left);
        const Floats height = smaller(load(bottom_ + place), Floats{} + box.bottom) -
                              larger(load(top_ + place), Floats{} + box.top);
        const Floats intersection = larger(width, Floats{}) * larger(height, Floats{});
        const Floats rest = load(area_ + place) + box.area - intersection;
        const Integers above = bit_cast<Integers>(intersection > threshold * rest);
        found |= above & (bit_cast<Integers>(load(low_ + place)) == low) &
                 (bit_cast<Integers>(load(high_ + place)) == high);
      }
      if (any(found)) return true;
    }
    return false;
  }

  HPVOD_INLINE int64_t number() const { return number_; }

 private:
  static HPVOD_INLINE int32_t low_half(int64_t label) { return static_cast<int32_t>(label); }
  static HPVOD_INLINE int32_t high_half(int64_t label) { return static_cast<int32_t>(label >> 32); }

  float *left_, *top_, *right_, *bottom_, *area_;
  float *low_, *high_;  // the bits of the labels' halves
  int64_t number_ = 0;
};

void one_image(const BatchedNms& params, int64_t n, float* memory) {
  const int64_t candidates = params.candidates;
  const float* boxes = params.boxes + n * candidates * 4;
  const int64_t* labels = params.labels + n * candidates;
  const int64_t* order = params.order + n * candidates;
  const bool* valid = params.valid ? params.valid + n * candidates : nullptr;
  int64_t* indices = params.indices + n * params.count;
  int64_t left = candidates;  // candidates still to come
  if (valid) left = std::count(valid, valid + candidates, true);
  KeptBoxes kept(memory, places_of(params));
  for (int64_t k = 0; k < candidates && left > 0 && kept.number() < params.count; ++k) {
    const int64_t index = order[k];
    if (index < 0 || index >= candidates || (valid && !valid[index])) continue;
    --left;
    const Box box = box_at(boxes + 4 * index, labels[index]);
    if (kept.suppress(box, params.threshold)) continue;
    indices[kept.number()] = index;
    kept.add(box);
  }
  std::fill(indices + kept.number(), indices + params.count, int64_t{0});
  params.counts[n] = static_cast<int32_t>(kept.number());
}

}  // namespace

int64_t batched_nms_workspace(const BatchedNms& params) {
  return params.batch * places_of(params) * KeptBoxes::kFields *
         static_cast<int64_t>(sizeof(float));
}

void batched_nms(const BatchedNms& params, void* workspace, int64_t begin, int64_t end) {
  const int64_t image = places_of(params) * KeptBoxes::kFields;
  for (int64_t n = begin; n < end; ++n) {
    one_image(params, n, static_cast<float*>(workspace) + n * image);
  }
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
