// warp_aggregate on CUDA.
#include "warp_aggregate.h"

namespace hpvod {
namespace {

Tensor warp_aggregate(Tensor key_feature, Tensor key_embedding, Tensor feature, Tensor embedding,
                      Tensor flow, std::optional<Tensor> mask, std::optional<Tensor> own_feature,
                      std::optional<Tensor> own_embedding, std::optional<Tensor> scale) {
  const WarpAggregateMaps maps{key_feature, key_embedding, feature,       embedding, flow,
                               mask,        own_feature,   own_embedding, scale};
  maps.check();
  const torch::stable::accelerator::DeviceGuard guard(feature.get_device_index());
  const Tensor output = maps.empty_output(Layout::kChannelsLast);
  if (output.numel() > 0) {
    const WarpAggregateMaps read = maps.as_read(Layout::kChannelsLast, dense);
    const char* error = launch_warp_aggregate(read.params(output), current_cuda_stream(feature));
    STD_TORCH_CHECK(!error, "warp_aggregate: ", error ? error : "");
  }
  return dense(output, layout_of(feature));
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_IMPL(hpvod, CUDA, m) {
  m.impl("warp_aggregate", TORCH_BOX(&hpvod::warp_aggregate));
}
