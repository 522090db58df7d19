// Maps brought from one layout to the other on the CPU. PyTorch's own copy takes four times as
// long, which is many times what an op on channels_last maps takes itself.
#pragma once

#include "../cpu/transpose.h"
#include "share_work.h"
#include "stable_compat.h"

namespace hpvod {

// Same values in the other layout, of a map that is dense in one of them.
inline Tensor in_other_layout(const Tensor& map, Layout layout) {
  const Tensor result = empty_map(map, map.sizes(), layout);
  const int64_t channels = map.size(1), area = map.size(2) * map.size(3);
  const bool from_planes = layout == Layout::kChannelsLast;
  const Transpose params{map.size(0),
                         from_planes ? channels : area,
                         from_planes ? area : channels,
                         static_cast<int64_t>(map.element_size()),
                         map.const_data_ptr(),
                         result.mutable_data_ptr()};
  const Range range = transpose_range(params);
  share_work(range, [&](int64_t begin, int64_t end) { transpose_cpu(params, begin, end); });
  return result;
}

// As `dense`.
inline Tensor dense_on_cpu(const Tensor& map, Layout layout) {
  const bool contiguous = map.is_contiguous(), channels_last = is_channels_last(map);
  const bool other =
      layout == Layout::kChannelsLast ? contiguous && !channels_last : channels_last && !contiguous;
  return other && map.numel() > 0 ? in_other_layout(map, layout) : dense(map, layout);
}

}  // namespace hpvod
