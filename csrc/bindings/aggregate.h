// What the bindings of aggregate for the CPU and for CUDA share: checks and layouts.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "../kernels/aggregate.h"
#include "stable_compat.h"

namespace hpvod {

// The Python function words the errors for its users; these checks keep a direct call of
// torch.ops.hpvod.aggregate from reading memory that is not the tensors' own.
inline void check_aggregate(const std::vector<Tensor>& features,
                            const std::vector<Tensor>& embeddings) {
  const char* op = "aggregate";
  STD_TORCH_CHECK(features.size() == embeddings.size() && !features.empty() &&
                      features.size() <= kMaxAggregateFrames,
                  op, ": features and embeddings must be as many, 1 to ", kMaxAggregateFrames,
                  ", not ", features.size(), " and ", embeddings.size());
  const Tensor& current = features.back();
  STD_TORCH_CHECK(dtype_of(current), op,
                  ": features must be float32, float16, bfloat16 or float64");
  const auto check = [&](const char* name, const std::vector<Tensor>& maps) {
    for (const Tensor& map : maps) {
      STD_TORCH_CHECK(map.dim() == 4, op, ": ", name, " must be [N, C, H, W], not ",
                      shape_text(map));
      for (const int axis : {0, 1, 2, 3}) {
        const Tensor& like = axis == 1 ? maps.back() : current;
        STD_TORCH_CHECK(map.size(axis) == like.size(axis), op, ": ", name,
                        " must have one shape, and the N, H and W of the current features; a map ",
                        "is ", shape_text(map), ", the current features are ", shape_text(current));
      }
      STD_TORCH_CHECK(
          map.scalar_type() == current.scalar_type() && map.device() == current.device(), op, ": ",
          name, " must have the dtype and device of the current features");
    }
  };
  STD_TORCH_CHECK(current.dim() == 4 && embeddings.back().dim() == 4, op,
                  ": features and embeddings must be [N, C, H, W]");
  check("features", features);
  check("embeddings", embeddings);
}

inline Tensor empty_aggregate(const Tensor& current, Layout layout) {
  return empty_map(current, current.sizes(), layout);
}

// The maps of an op, dense in the layout that its kernel reads.
class AggregateMaps {
 public:
  template <typename Dense>
  AggregateMaps(const std::vector<Tensor>& maps, Layout layout, Dense dense) {
    for (size_t i = 0; i < maps.size(); ++i) {
      // One map may be given more than once: a window is padded with its last frames.
      size_t same = 0;
      while (maps[same].const_data_ptr() != maps[i].const_data_ptr()) ++same;
      // Not ==, which torch 2.11's have not.
      const auto strides = maps[i].strides(), others = maps[same].strides();
      maps_.push_back(same < i && std::equal(strides.begin(), strides.end(), others.begin())
                          ? maps_[same]
                          : dense(maps[i], layout));
      pointers_[i] = maps_[i].const_data_ptr();
    }
  }

  const void* const* pointers() const { return pointers_.data(); }

 private:
  std::vector<Tensor> maps_;
  std::array<const void*, kMaxAggregateFrames> pointers_;
};

inline Aggregate aggregate_params(const Tensor& current, const Tensor& current_embedding,
                                  const AggregateMaps& features, const AggregateMaps& embeddings,
                                  int64_t frames, const Tensor& output) {
  return {frames,
          current.size(0) * current.size(2) * current.size(3),
          current.size(1),
          current_embedding.size(1),
          *dtype_of(current),
          features.pointers(),
          embeddings.pointers(),
          output.mutable_data_ptr()};
}

}  // namespace hpvod
