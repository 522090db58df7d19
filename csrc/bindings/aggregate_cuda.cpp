// aggregate on CUDA.
#include "aggregate.h"

namespace hpvod {
namespace {

Tensor aggregate(std::vector<Tensor> features, std::vector<Tensor> embeddings) {
  check_aggregate(features, embeddings);
  const Tensor& current = features.back();
  const torch::stable::accelerator::DeviceGuard guard(current.get_device_index());
  const Tensor output = empty_aggregate(current, Layout::kChannelsLast);
  if (output.numel() > 0) {
    const AggregateMaps feature_maps(features, Layout::kChannelsLast, dense),
        embedding_maps(embeddings, Layout::kChannelsLast, dense);
    const char* error = launch_aggregate(aggregate_params(current, embeddings.back(), feature_maps,
                                                          embedding_maps, features.size(), output),
                                         current_cuda_stream(current));
    STD_TORCH_CHECK(!error, "aggregate: ", error ? error : "");
  }
  return dense(output, layout_of(current));
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_IMPL(hpvod, CUDA, m) { m.impl("aggregate", TORCH_BOX(&hpvod::aggregate)); }
