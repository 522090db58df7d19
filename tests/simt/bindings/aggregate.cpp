// csrc/kernels/aggregate.h on NumPy arrays.
#include "aggregate.h"

#include <pybind11/stl.h>

#include <deque>
#include <vector>

#include "op.h"

namespace {

// As many maps as there are of this name: "features_0", "features_1" and so on.
class Maps {
 public:
  Maps(const py::kwargs& arrays, const std::string& name) {
    for (int t = 0;; ++t) {
      const py::str key(name + "_" + std::to_string(t));
      if (!arrays.contains(key)) break;
      buffers_.emplace_back(arrays[key].cast<py::array>());
      pointers_.push_back(buffers_.back().data());
    }
  }
  const void* const* pointers() const { return pointers_.data(); }
  void check() {
    for (Input& buffer : buffers_) buffer.check();
  }

 private:
  std::deque<Input> buffers_;
  std::vector<const void*> pointers_;
};

void run(int64_t frames, int64_t pixels, int64_t channels, int64_t embedding_channels,
         const std::string& dtype, py::array output, const py::kwargs& arrays) {
  Maps features(arrays, "features"), embeddings(arrays, "embeddings");
  Buffer output_buffer(output);
  throw_if(
      hpvod::launch_aggregate({frames, pixels, channels, embedding_channels, dtype_named(dtype),
                               features.pointers(), embeddings.pointers(), output_buffer.data()},
                              nullptr));
  features.check();
  embeddings.check();
  output_buffer.copy_back(output);
}

}  // namespace

PYBIND11_MODULE(aggregate, module) {
  module.def("run", &run, py::kw_only(), py::arg("frames"), py::arg("pixels"), py::arg("channels"),
             py::arg("embedding_channels"), py::arg("dtype"), py::arg("output"));
}
