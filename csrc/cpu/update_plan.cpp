#include "update_plan.h"

#include <algorithm>
#include <vector>

namespace hpvod {
namespace {

template <typename T>
void find_mask(const UpdatePlan& params) {
  const int64_t area = params.height * params.width;
  // As torch compares a tensor with a number: in the tensor's dtype.
  const auto tau = widen(narrow<T>(static_cast<accumulate_t<T>>(params.tau)));
  for (int64_t n = 0; n < params.batch; ++n) {
    const T* q = static_cast<const T*>(params.q) + n * area;
    bool* mask = params.mask + n * area;
    int32_t changed = 0;
    for (int64_t p = 0; p < area; ++p) {
      mask[p] = widen(q[p]) <= tau;
      changed += mask[p];
    }
    params.changed[n] = changed;
    // In double: a float32 share can exceed a gamma that the true one only equals.
    const bool key =
        params.forced_key
            ? params.forced_key[n]
            : area > 0 && static_cast<double>(changed) / static_cast<double>(area) > params.gamma;
    params.is_key[n] = key;
    if (key) std::fill_n(mask, area, true);
  }
}

// U and where a list's pixels lie, a row of one image's layer at a time.
class Rows {
 public:
  Rows(const UpdatePlan& plan, const PixelSet& set, int64_t image)
      : set_(set),
        mask_(plan.mask + image * plan.height * plan.width),
        mask_height_(plan.height),
        mask_width_(plan.width),
        near_(set.width) {}

  // U of row y, repeated to the layer's resolution.
  void active(int64_t y, uint8_t* row) const {
    const bool* mask = mask_ + std::min(y / set_.ratio, mask_height_ - 1) * mask_width_;
    for (int64_t x = 0, column = 0; x < set_.width; ++column) {
      // The last column of U serves all that lies beyond it.
      const int64_t end =
          column + 1 < mask_width_ ? std::min<int64_t>(x + set_.ratio, set_.width) : set_.width;
      std::fill(row + x, row + end, static_cast<uint8_t>(mask[column]));
      x = end;
    }
  }

  // Adds what one of the eight offsets away is active in row y + offset.
  void add_neighbours(int64_t y, uint8_t* row) {
    const int64_t d = set_.dilation, width = set_.width;
    for (const int64_t neighbour : {y - d, y, y + d}) {
      if (neighbour < 0 || neighbour >= set_.height) continue;
      active(neighbour, near_.data());
      for (int64_t x = 0; x < width; ++x) row[x] |= near_[x];
      for (int64_t x = d; x < width; ++x) row[x] |= near_[x - d];
      for (int64_t x = 0; x + d < width; ++x) row[x] |= near_[x + d];
    }
  }

 private:
  const PixelSet& set_;
  const bool* mask_;
  int64_t mask_height_;
  int64_t mask_width_;
  std::vector<uint8_t> near_;
};

void find_pixels(const UpdatePlan& plan, const PixelSet& set, int32_t* count) {
  int32_t* pixels = plan.pixels + set.offset;
  int32_t* next = pixels;
  std::vector<uint8_t> row(set.width), member(set.width);
  for (int64_t n = 0; n < plan.batch; ++n) {
    Rows rows(plan, set, n);
    for (int64_t y = 0; y < set.height; ++y) {
      rows.active(y, row.data());
      member = row;
      if (set.kind == PixelSetKind::kHalo || set.kind == PixelSetKind::kReached) {
        rows.add_neighbours(y, member.data());
      }
      const bool without_active =
          set.kind == PixelSetKind::kHalo || set.kind == PixelSetKind::kInactive;
      const uint8_t flipped = set.kind == PixelSetKind::kInactive;
      const auto first = static_cast<int32_t>((n * set.height + y) * set.width);
      for (int32_t x = 0; x < set.width; ++x) {
        *next = first + x;
        next += (member[x] ^ flipped) & ~(without_active & row[x]) & 1;
      }
    }
  }
  *count = static_cast<int32_t>(next - pixels);
}

}  // namespace

void update_mask_cpu(const UpdatePlan& params) {
  switch (params.dtype) {
    case DType::kFloat64:
      return find_mask<double>(params);
    case DType::kFloat16:
      return find_mask<Half>(params);
    case DType::kBFloat16:
      return find_mask<BFloat16>(params);
    default:
      return find_mask<float>(params);
  }
}

void update_plan_cpu(const UpdatePlan& params, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) find_pixels(params, params.sets[i], params.counts + i);
}

}  // namespace hpvod
