// run(name, input, output, grid, block, shared_bytes) for the kernels in tests/simt/kernels.
#include "kernels/planted.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>

#include "buffer.h"

namespace py = pybind11;

using Size = std::array<unsigned, 3>;

void run(const std::string& name, const py::array& input, py::array output, Size grid, Size block,
         size_t shared_bytes) {
  simt::Buffer in(input);
  simt::Buffer out(output);
  const planted::Arguments arguments{in.data(), out.data(), dim3(grid[0], grid[1], grid[2]),
                                     dim3(block[0], block[1], block[2]), shared_bytes};
  const char* error = planted::launchers().at(name)(arguments);
  if (error != nullptr) throw std::runtime_error(error);
  out.copy_back(output);
}

PYBIND11_MODULE(planted, module) {
  module.def("run", &run, py::arg("name"), py::arg("input"), py::arg("output"), py::arg("grid"),
             py::arg("block"), py::arg("shared_bytes"));
}
