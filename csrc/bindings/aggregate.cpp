// aggregate: the schema, and the CPU's implementation.
#include "aggregate.h"

#include "../cpu/aggregate.h"
#include "cpu_layout.h"

namespace hpvod {
namespace {

Tensor aggregate(std::vector<Tensor> features, std::vector<Tensor> embeddings) {
  check_aggregate(features, embeddings);
  const Tensor& current = features.back();
  const Tensor output = empty_aggregate(current);
  if (output.numel() > 0) {
    const AggregateMaps feature_maps(features, dense_on_cpu),
        embedding_maps(embeddings, dense_on_cpu);
    const Aggregate params = aggregate_params(current, embeddings.back(), feature_maps,
                                              embedding_maps, features.size(), output);
    const Range range = aggregate_range(params);
    torch::stable::parallel_for(0, range.items, range.grain, [&](int64_t begin, int64_t end) {
      aggregate_cpu(params, begin, end);
    });
  }
  return dense_on_cpu(output, layout_of(current));
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def("aggregate(Tensor[] features, Tensor[] embeddings) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) { m.impl("aggregate", TORCH_BOX(&hpvod::aggregate)); }
