// csrc/kernels/warp_aggregate.h on NumPy arrays.
#include "warp_aggregate.h"

#include <pybind11/stl.h>

#include "op.h"

namespace {

void run(int64_t batch, int64_t channels, int64_t embedding_channels, int64_t height, int64_t width,
         const std::string& dtype, const std::string& flow_dtype, const py::array& key_feature,
         const py::array& key_embedding, const py::array& feature, const py::array& embedding,
         const py::array& flow, const OptionalArray& mask, const OptionalArray& own_feature,
         const OptionalArray& own_embedding, const OptionalArray& scale, py::array output) {
  Input key_feature_buffer(key_feature), key_embedding_buffer(key_embedding);
  Input feature_buffer(feature), embedding_buffer(embedding), flow_buffer(flow), mask_buffer(mask);
  Input own_feature_buffer(own_feature), own_embedding_buffer(own_embedding), scale_buffer(scale);
  Buffer output_buffer(output);
  throw_if(hpvod::launch_warp_aggregate(
      {batch, channels, embedding_channels, height, width, dtype_named(dtype),
       dtype_named(flow_dtype), key_feature_buffer.data(), key_embedding_buffer.data(),
       feature_buffer.data(), embedding_buffer.data(), flow_buffer.data(), mask_buffer.data(),
       own_feature_buffer.data(), own_embedding_buffer.data(), scale_buffer.data(),
       output_buffer.data()},
      nullptr));
  for (Input* input :
       {&key_feature_buffer, &key_embedding_buffer, &feature_buffer, &embedding_buffer,
        &flow_buffer, &mask_buffer, &own_feature_buffer, &own_embedding_buffer, &scale_buffer}) {
    input->check();
  }
  output_buffer.copy_back(output);
}

}  // namespace

PYBIND11_MODULE(warp_aggregate, module) {
  module.def("run", &run, py::kw_only(), py::arg("batch"), py::arg("channels"),
             py::arg("embedding_channels"), py::arg("height"), py::arg("width"), py::arg("dtype"),
             py::arg("flow_dtype"), py::arg("key_feature"), py::arg("key_embedding"),
             py::arg("feature"), py::arg("embedding"), py::arg("flow"),
             py::arg("mask") = py::none(), py::arg("own_feature") = py::none(),
             py::arg("own_embedding") = py::none(), py::arg("scale") = py::none(),
             py::arg("output"));
}
