// csrc/kernels/ps_roi_pool.h on NumPy arrays.
#include "ps_roi_pool.h"

#include "op.h"

namespace {

void run(int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t rois,
         int64_t groups, int64_t stride, int64_t channel_step, int64_t pixel_step,
         const std::string& dtype, const py::array& score_maps, const py::array& boxes,
         py::array output) {
  Input maps_buffer(score_maps), boxes_buffer(boxes);
  Buffer output_buffer(output);
  throw_if(hpvod::launch_ps_roi_pool(
      {batch, channels, height, width, rois, groups, stride, channel_step, pixel_step,
       dtype_named(dtype), maps_buffer.data(), static_cast<const float*>(boxes_buffer.data()),
       output_buffer.data()},
      nullptr));
  maps_buffer.check();
  boxes_buffer.check();
  output_buffer.copy_back(output);
}

}  // namespace

PYBIND11_MODULE(ps_roi_pool, module) {
  module.def("run", &run, py::kw_only(), py::arg("batch"), py::arg("channels"), py::arg("height"),
             py::arg("width"), py::arg("rois"), py::arg("groups"), py::arg("stride"),
             py::arg("channel_step"), py::arg("pixel_step"), py::arg("dtype"),
             py::arg("score_maps"), py::arg("boxes"), py::arg("output"));
}
