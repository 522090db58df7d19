// What the bindings of ops share. Maps are flat bytes in the memory order of their layout.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include "buffer.h"
#include "dtype.h"

namespace py = pybind11;
using simt::Buffer;
using OptionalArray = std::optional<py::array>;

inline hpvod::DType dtype_named(const std::string& name) {
  static const std::map<std::string, hpvod::DType> dtypes = {{"float32", hpvod::DType::kFloat32},
                                                             {"float16", hpvod::DType::kFloat16},
                                                             {"bfloat16", hpvod::DType::kBFloat16},
                                                             {"float64", hpvod::DType::kFloat64}};
  return dtypes.at(name);
}

inline void throw_if(const char* error) {
  if (error != nullptr) throw std::runtime_error(error);
}

// An array that the kernels only read, if it is given at all; `check` afterwards.
class Input {
 public:
  explicit Input(const OptionalArray& array) : array_(array) {
    if (array_) buffer_.emplace(*array_);
  }
  void* data() { return buffer_ ? buffer_->data() : nullptr; }
  void check() {
    if (buffer_) buffer_->check_unchanged(*array_);
  }

 private:
  OptionalArray array_;
  std::optional<Buffer> buffer_;
};
