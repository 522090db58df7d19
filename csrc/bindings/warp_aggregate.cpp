// warp_aggregate: the schema, and the CPU's implementation.
#include "warp_aggregate.h"

#include "../cpu/warp_aggregate.h"
#include "cpu_layout.h"

namespace hpvod {
namespace {

Tensor warp_aggregate(Tensor key_feature, Tensor key_embedding, Tensor feature, Tensor embedding,
                      Tensor flow, std::optional<Tensor> mask, std::optional<Tensor> own_feature,
                      std::optional<Tensor> own_embedding, std::optional<Tensor> scale) {
  const WarpAggregateMaps maps{key_feature, key_embedding, feature,       embedding, flow,
                               mask,        own_feature,   own_embedding, scale};
  maps.check();
  const Tensor output = maps.empty_output();
  if (output.numel() > 0) {
    const WarpAggregateMaps read = maps.as_read(dense_on_cpu);
    const WarpAggregate params = read.params(output);
    const Range range = warp_aggregate_range(params);
    torch::stable::parallel_for(0, range.items, range.grain, [&](int64_t begin, int64_t end) {
      warp_aggregate_cpu(params, begin, end);
    });
  }
  return dense_on_cpu(output, layout_of(feature));
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def(
      "warp_aggregate(Tensor key_feature, Tensor key_embedding, Tensor feature, Tensor embedding, "
      "Tensor flow, Tensor? mask, Tensor? own_feature, Tensor? own_embedding, Tensor? scale) "
      "-> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) {
  m.impl("warp_aggregate", TORCH_BOX(&hpvod::warp_aggregate));
}
