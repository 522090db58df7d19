// csrc/kernels/update_plan.h on NumPy arrays; q is flat bytes.
#include "update_plan.h"

#include <pybind11/stl.h>

#include "op.h"

namespace {

using Set = std::array<int64_t, 6>;  // kind, ratio, dilation, height, width, offset

void run(int64_t batch, int64_t height, int64_t width, const std::string& dtype, double tau,
         double gamma, const std::vector<Set>& sets, const py::array& q, const OptionalArray& key,
         py::array mask, py::array is_key, py::array changed, py::array pixels, py::array counts) {
  hpvod::UpdatePlan params{};
  params.batch = batch;
  params.height = height;
  params.width = width;
  params.dtype = dtype_named(dtype);
  params.tau = tau;
  params.gamma = gamma;
  params.set_count = static_cast<int32_t>(sets.size());
  for (size_t l = 0; l < sets.size(); ++l) {
    const auto [kind, ratio, dilation, layer_height, layer_width, offset] = sets[l];
    params.sets[l] = {static_cast<hpvod::PixelSetKind>(kind), static_cast<int32_t>(ratio),
                      static_cast<int32_t>(dilation),         static_cast<int32_t>(layer_height),
                      static_cast<int32_t>(layer_width),      offset};
  }
  Input q_input(q);
  Input key_input(key);
  Buffer mask_buffer(mask), is_key_buffer(is_key), changed_buffer(changed), pixels_buffer(pixels);
  Buffer counts_buffer(counts);
  py::array_t<unsigned char> workspace(hpvod::update_plan_workspace(params));
  std::fill_n(workspace.mutable_data(), workspace.size(), 0xff);
  Buffer workspace_buffer(workspace);
  params.q = q_input.data();
  params.forced_key = static_cast<const bool*>(key_input.data());
  params.mask = static_cast<bool*>(mask_buffer.data());
  params.is_key = static_cast<bool*>(is_key_buffer.data());
  params.changed = static_cast<int32_t*>(changed_buffer.data());
  params.pixels = static_cast<int32_t*>(pixels_buffer.data());
  params.counts = static_cast<int32_t*>(counts_buffer.data());
  params.workspace = workspace_buffer.data();
  throw_if(hpvod::launch_update_plan(params, nullptr));
  q_input.check();
  key_input.check();
  workspace_buffer.copy_back(workspace);
  mask_buffer.copy_back(mask);
  is_key_buffer.copy_back(is_key);
  changed_buffer.copy_back(changed);
  pixels_buffer.copy_back(pixels);
  counts_buffer.copy_back(counts);
}

}  // namespace

PYBIND11_MODULE(update_plan, module) {
  module.def("run", &run, py::kw_only(), py::arg("batch"), py::arg("height"), py::arg("width"),
             py::arg("dtype"), py::arg("tau"), py::arg("gamma"), py::arg("sets"), py::arg("q"),
             py::arg("key") = py::none(), py::arg("mask"), py::arg("is_key"), py::arg("changed"),
             py::arg("pixels"), py::arg("counts"));
}
