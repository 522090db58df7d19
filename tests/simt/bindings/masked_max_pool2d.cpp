// csrc/kernels/masked_max_pool2d.h on NumPy arrays.
#include "masked_max_pool2d.h"

#include <pybind11/stl.h>

#include "op.h"

namespace {

void run(int64_t batch, int64_t channels, int64_t in_height, int64_t in_width, int64_t out_height,
         int64_t out_width, int64_t kernel, int64_t stride, int64_t padding,
         const std::string& dtype, const py::array& input, const py::array& pixels,
         const py::array& count, py::array output) {
  Input input_buffer(input), pixels_buffer(pixels), count_buffer(count);
  Buffer output_buffer(output);
  throw_if(hpvod::launch_masked_max_pool2d(
      {batch, channels, in_height, in_width, out_height, out_width, kernel, stride, padding,
       dtype_named(dtype), input_buffer.data(), output_buffer.data(),
       static_cast<const int32_t*>(pixels_buffer.data()),
       static_cast<const int32_t*>(count_buffer.data()), pixels.size()},
      nullptr));
  input_buffer.check();
  pixels_buffer.check();
  count_buffer.check();
  output_buffer.copy_back(output);
}

}  // namespace

PYBIND11_MODULE(masked_max_pool2d, module) {
  module.def("run", &run, py::kw_only(), py::arg("batch"), py::arg("channels"),
             py::arg("in_height"), py::arg("in_width"), py::arg("out_height"), py::arg("out_width"),
             py::arg("kernel"), py::arg("stride"), py::arg("padding"), py::arg("dtype"),
             py::arg("input"), py::arg("pixels"), py::arg("count"), py::arg("output"));
}
