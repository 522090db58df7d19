// csrc/kernels/warp.h on NumPy arrays. Arrays are flat, in the memory order of their layout;
// half and bfloat16 are whatever type of 2 bytes holds their bits.
#include "warp.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include "buffer.h"

namespace py = pybind11;
using hpvod::DType;
using hpvod::Layout;
using hpvod::WarpShape;
using simt::Buffer;
using OptionalArray = std::optional<py::array>;

namespace {

WarpShape make_shape(int64_t batch, int64_t feature_batch, int64_t channels, int64_t height,
                     int64_t width, const std::string& layout, const std::string& dtype,
                     const std::string& flow_dtype) {
  static const std::map<std::string, Layout> layouts = {{"contiguous", Layout::kContiguous},
                                                        {"channels_last", Layout::kChannelsLast}};
  static const std::map<std::string, DType> dtypes = {{"float32", DType::kFloat32},
                                                      {"float16", DType::kFloat16},
                                                      {"bfloat16", DType::kBFloat16},
                                                      {"float64", DType::kFloat64}};
  return {batch, feature_batch,      channels,         height,
          width, layouts.at(layout), dtypes.at(dtype), dtypes.at(flow_dtype)};
}

// A buffer for an array that may be left out.
class OptionalBuffer {
 public:
  explicit OptionalBuffer(const OptionalArray& array) {
    if (array) buffer_.emplace(*array);
  }
  void* data() { return buffer_ ? buffer_->data() : nullptr; }
  void check_unchanged(const OptionalArray& array) {
    if (buffer_) buffer_->check_unchanged(*array);
  }
  void copy_back(OptionalArray& array) {
    if (buffer_) buffer_->copy_back(*array);
  }

 private:
  std::optional<Buffer> buffer_;
};

void throw_if(const char* error) {
  if (error != nullptr) throw std::runtime_error(error);
}

void forward(const WarpShape& shape, const py::array& feature, const py::array& flow,
             const OptionalArray& scale, py::array output) {
  Buffer feature_buffer(feature), flow_buffer(flow), output_buffer(output);
  OptionalBuffer scale_buffer(scale);
  throw_if(hpvod::launch_warp_forward(
      {shape, feature_buffer.data(), flow_buffer.data(), scale_buffer.data(), output_buffer.data()},
      nullptr));
  feature_buffer.check_unchanged(feature);
  flow_buffer.check_unchanged(flow);
  scale_buffer.check_unchanged(scale);
  output_buffer.copy_back(output);
}

void backward(const WarpShape& shape, const py::array& feature, const py::array& flow,
              const OptionalArray& scale, const py::array& grad_output, OptionalArray grad_feature,
              OptionalArray grad_flow, OptionalArray grad_scale) {
  py::array_t<unsigned char> workspace(hpvod::warp_backward_workspace(shape));
  std::fill_n(workspace.mutable_data(), workspace.size(), 0xff);
  Buffer feature_buffer(feature), flow_buffer(flow), grad_output_buffer(grad_output);
  Buffer workspace_buffer(workspace);
  OptionalBuffer scale_buffer(scale), grad_feature_buffer(grad_feature);
  OptionalBuffer grad_flow_buffer(grad_flow), grad_scale_buffer(grad_scale);
  throw_if(hpvod::launch_warp_backward(
      {shape, feature_buffer.data(), flow_buffer.data(), scale_buffer.data(),
       grad_output_buffer.data(), grad_feature_buffer.data(), grad_flow_buffer.data(),
       grad_scale_buffer.data(), workspace_buffer.data()},
      nullptr));
  feature_buffer.check_unchanged(feature);
  flow_buffer.check_unchanged(flow);
  scale_buffer.check_unchanged(scale);
  grad_output_buffer.check_unchanged(grad_output);
  workspace_buffer.copy_back(workspace);
  grad_feature_buffer.copy_back(grad_feature);
  grad_flow_buffer.copy_back(grad_flow);
  grad_scale_buffer.copy_back(grad_scale);
}

}  // namespace

PYBIND11_MODULE(warp, module) {
  py::class_<WarpShape>(module, "WarpShape")
      .def(py::init(&make_shape), py::kw_only(), py::arg("batch"), py::arg("feature_batch"),
           py::arg("channels"), py::arg("height"), py::arg("width"), py::arg("layout"),
           py::arg("dtype"), py::arg("flow_dtype"));
  module.def("forward", &forward);
  module.def("backward", &backward);
}
