// csrc/kernels/batched_nms.h on NumPy arrays.
#include "batched_nms.h"

#include <pybind11/stl.h>

#include "op.h"

namespace {

void run(int64_t batch, int64_t candidates, int64_t count, double threshold, const py::array& boxes,
         const py::array& labels, const py::array& order, const OptionalArray& valid,
         py::array indices, py::array counts) {
  Input boxes_input(boxes), labels_input(labels), order_input(order), valid_input(valid);
  Buffer indices_buffer(indices), counts_buffer(counts);
  throw_if(hpvod::launch_batched_nms(
      {batch, candidates, count, static_cast<float>(threshold),
       static_cast<const float*>(boxes_input.data()),
       static_cast<const int64_t*>(labels_input.data()),
       static_cast<const int64_t*>(order_input.data()),
       static_cast<const bool*>(valid_input.data()), static_cast<int64_t*>(indices_buffer.data()),
       static_cast<int32_t*>(counts_buffer.data())},
      nullptr));
  for (Input* input : {&boxes_input, &labels_input, &order_input, &valid_input}) input->check();
  indices_buffer.copy_back(indices);
  counts_buffer.copy_back(counts);
}

}  // namespace

PYBIND11_MODULE(batched_nms, module) {
  module.def("run", &run, py::kw_only(), py::arg("batch"), py::arg("candidates"), py::arg("count"),
             py::arg("threshold"), py::arg("boxes"), py::arg("labels"), py::arg("order"),
             py::arg("valid") = py::none(), py::arg("indices"), py::arg("counts"));
}
