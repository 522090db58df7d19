// aggregate: the schema, and the CPU's implementation.
#include "aggregate.h"

#include "../cpu/aggregate.h"
#include "cpu_layout.h"
#include "share_work.h"

namespace hpvod {
namespace {

Tensor aggregate(std::vector<Tensor> features, std::vector<Tensor> embeddings) {
  check_aggregate(features, embeddings);
  const Tensor& current = features.back();
  const Layout layout = layout_of(current);
  const Tensor output = empty_aggregate(current, layout);
  if (output.numel() == 0) return output;
  const AggregateMaps feature_maps(features, layout, dense_on_cpu),
      embedding_maps(embeddings, layout, dense_on_cpu);
  const Aggregate params = aggregate_params(current, embeddings.back(), feature_maps,
                                            embedding_maps, features.size(), output);
  if (layout == Layout::kChannelsLast) {
    share_work(aggregate_range(params),
               [&](int64_t begin, int64_t end) { aggregate_cpu(params, begin, end); });
  } else {
    const int64_t area = current.size(2) * current.size(3);
    share_work(aggregate_planes_range(params, area),
               [&](int64_t begin, int64_t end) { aggregate_planes_cpu(params, area, begin, end); });
  }
  return output;
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def("aggregate(Tensor[] features, Tensor[] embeddings) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) { m.impl("aggregate", TORCH_BOX(&hpvod::aggregate)); }
