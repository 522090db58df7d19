// csrc/kernels/warp_pixels.h on NumPy arrays.
#include "warp_pixels.h"

#include <pybind11/stl.h>

#include "op.h"

namespace {

void run(int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t flow_height,
         int64_t flow_width, int64_t ratio, const std::string& dtype, const std::string& flow_dtype,
         const py::array& feature, const py::array& flow, const OptionalArray& scale,
         const py::array& pixels, const py::array& count, py::array output) {
  Input feature_buffer(feature), flow_buffer(flow), scale_buffer(scale), pixels_buffer(pixels);
  Input count_buffer(count);
  Buffer output_buffer(output);
  throw_if(hpvod::launch_warp_pixels(
      {batch, channels, height, width, flow_height, flow_width, ratio, dtype_named(dtype),
       dtype_named(flow_dtype), feature_buffer.data(), flow_buffer.data(), scale_buffer.data(),
       output_buffer.data(), static_cast<const int32_t*>(pixels_buffer.data()),
       static_cast<const int32_t*>(count_buffer.data()), pixels.size()},
      nullptr));
  feature_buffer.check();
  flow_buffer.check();
  scale_buffer.check();
  pixels_buffer.check();
  count_buffer.check();
  output_buffer.copy_back(output);
}

}  // namespace

PYBIND11_MODULE(warp_pixels, module) {
  module.def("run", &run, py::kw_only(), py::arg("batch"), py::arg("channels"), py::arg("height"),
             py::arg("width"), py::arg("flow_height"), py::arg("flow_width"), py::arg("ratio"),
             py::arg("dtype"), py::arg("flow_dtype"), py::arg("feature"), py::arg("flow"),
             py::arg("scale") = py::none(), py::arg("pixels"), py::arg("count"), py::arg("output"));
}
