// csrc/kernels/masked_conv2d.h on NumPy arrays.
#include "masked_conv2d.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <vector>

#include "op.h"

// After pybind11's headers, which use `asm`.
#include "masked_conv2d.cuh"

namespace {

using Pair = std::array<int64_t, 2>;

// With `in_place`, the residual is the output itself; `device` is one of simt/device.h.
void run(int64_t batch, int64_t in_channels, Pair in_size, int64_t out_channels, Pair out_size,
         Pair kernel, int64_t stride, int64_t padding, int64_t dilation, const std::string& dtype,
         bool relu, bool in_place, int device, const py::array& x, const py::array& weight,
         const OptionalArray& bias, const OptionalArray& residual, const py::array& pixels,
         const py::array& count, py::array output) {
  Input x_buffer(x), weight_buffer(weight), bias_buffer(bias), residual_buffer(residual);
  Input pixels_buffer(pixels), count_buffer(count);
  Buffer output_buffer(output);
  hpvod::MaskedConv2d params{
      {batch, in_channels, in_size[0], in_size[1], out_channels, out_size[0], out_size[1],
       kernel[0], kernel[1], stride, padding, dilation, dtype_named(dtype)},
      x_buffer.data(),
      weight_buffer.data(),
      bias_buffer.data(),
      in_place ? output_buffer.data() : residual_buffer.data(),
      output_buffer.data(),
      static_cast<const int32_t*>(pixels_buffer.data()),
      static_cast<const int32_t*>(count_buffer.data()),
      pixels.size(),
      relu,
      nullptr};
  simt::current_device = device;
  py::array_t<unsigned char> workspace(hpvod::masked_conv2d_workspace(params));
  std::fill_n(workspace.mutable_data(), workspace.size(), 0xff);
  Buffer workspace_buffer(workspace);
  params.workspace = workspace_buffer.data();
  throw_if(hpvod::launch_masked_conv2d(params, nullptr));
  x_buffer.check();
  weight_buffer.check();
  bias_buffer.check();
  residual_buffer.check();
  pixels_buffer.check();
  count_buffer.check();
  workspace_buffer.copy_back(workspace);
  output_buffer.copy_back(output);
}

// Of every block what it computes, one thing after the other: rows of (block, the members of
// ConvItem).
py::array_t<int> items(int tiles, int steps, int blocks) {
  const hpvod::ConvTiling tiling(tiles, steps, blocks);
  std::vector<std::array<int, 8>> rows;
  for (int block = 0; block < blocks; ++block) {
    for (int number = 0;; ++number) {
      const hpvod::ConvItem item = tiling.item(block, number);
      if (item.tile < 0) break;
      rows.push_back({block, item.tile, item.begin, item.end, item.pieces, item.first_piece,
                      item.piece, item.cut_tile});
    }
  }
  py::array_t<int> array({static_cast<py::ssize_t>(rows.size()), py::ssize_t{8}});
  std::memcpy(array.mutable_data(), rows.data(), rows.size() * sizeof(rows[0]));
  return array;
}

}  // namespace

PYBIND11_MODULE(masked_conv2d, module) {
  module.def("run", &run, py::kw_only(), py::arg("batch"), py::arg("in_channels"),
             py::arg("in_size"), py::arg("out_channels"), py::arg("out_size"), py::arg("kernel"),
             py::arg("stride"), py::arg("padding"), py::arg("dilation"), py::arg("dtype"),
             py::arg("relu"), py::arg("in_place"), py::arg("device"), py::arg("x"),
             py::arg("weight"), py::arg("bias") = py::none(), py::arg("residual") = py::none(),
             py::arg("pixels"), py::arg("count"), py::arg("output"));
  module.def("items", &items);
}
