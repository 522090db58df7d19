// warp_aggregate: the schema, and the CPU's implementation.
#include "warp_aggregate.h"

#include <memory>

#include "../cpu/warp_aggregate.h"
#include "cpu_layout.h"
#include "share_work.h"

namespace hpvod {
namespace {

void run(const WarpAggregateMaps& maps, Layout layout, const Tensor& output) {
  if (output.numel() == 0) return;
  const WarpAggregateMaps read = maps.as_read(layout, dense_on_cpu);
  const WarpAggregate params = read.params(output);
  if (layout == Layout::kChannelsLast) {
    share_work(warp_aggregate_range(params),
               [&](int64_t begin, int64_t end) { warp_aggregate_cpu(params, begin, end); });
  } else {
    const std::unique_ptr<char[]> workspace(new char[warp_aggregate_planes_workspace(params)]);
    for (const PlanesStep step : kPlanesSteps) {
      share_work(warp_aggregate_planes_range(params, step), [&](int64_t begin, int64_t end) {
        warp_aggregate_planes_cpu(params, workspace.get(), step, begin, end);
      });
    }
  }
}

Tensor warp_aggregate(Tensor key_feature, Tensor key_embedding, Tensor feature, Tensor embedding,
                      Tensor flow, std::optional<Tensor> mask, std::optional<Tensor> own_feature,
                      std::optional<Tensor> own_embedding, std::optional<Tensor> scale) {
  const WarpAggregateMaps maps{key_feature, key_embedding, feature,       embedding, flow,
                               mask,        own_feature,   own_embedding, scale};
  maps.check();
  const Layout layout = layout_of(feature);
  const Tensor output = maps.empty_output(layout);
  run(maps, layout, output);
  return output;
}

void warp_aggregate_out(Tensor key_feature, Tensor key_embedding, Tensor feature, Tensor embedding,
                        Tensor flow, std::optional<Tensor> mask, std::optional<Tensor> own_feature,
                        std::optional<Tensor> own_embedding, std::optional<Tensor> scale,
                        Tensor output) {
  const WarpAggregateMaps maps{key_feature, key_embedding, feature,       embedding, flow,
                               mask,        own_feature,   own_embedding, scale};
  maps.check();
  maps.check_like("out", output, feature);
  const Layout layout = layout_of(feature);
  STD_TORCH_CHECK(
      layout == Layout::kChannelsLast ? is_channels_last(output) : output.is_contiguous(),
      "warp_aggregate: out must be dense in the feature's layout");
  run(maps, layout, output);
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def(
      "warp_aggregate(Tensor key_feature, Tensor key_embedding, Tensor feature, Tensor embedding, "
      "Tensor flow, Tensor? mask, Tensor? own_feature, Tensor? own_embedding, Tensor? scale) "
      "-> Tensor");
  m.def(
      "warp_aggregate_out(Tensor key_feature, Tensor key_embedding, Tensor feature, "
      "Tensor embedding, Tensor flow, Tensor? mask, Tensor? own_feature, Tensor? own_embedding, "
      "Tensor? scale, *, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) {
  m.impl("warp_aggregate", TORCH_BOX(&hpvod::warp_aggregate));
  m.impl("warp_aggregate_out", TORCH_BOX(&hpvod::warp_aggregate_out));
}
