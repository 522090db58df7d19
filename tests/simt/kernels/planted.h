// Small kernels that prove simt.h, or break its rules, each under a name.
#pragma once

#include <map>
#include <string>

#include "device.h"

namespace planted {

struct Arguments {
  const void* input;
  void* output;
  dim3 grid;
  dim3 block;
  size_t shared_bytes;

  // Launches a kernel of (const In*, Out*).
  template <typename In, typename Out>
  const char* launch(void (*kernel)(const In*, Out*)) const {
    return hpvod::launch(kernel, grid, block, shared_bytes, nullptr, static_cast<const In*>(input),
                         static_cast<Out*>(output));
  }
};

using Launcher = const char* (*)(const Arguments&);

inline std::map<std::string, Launcher>& launchers() {
  static std::map<std::string, Launcher> all;
  return all;
}

struct Register {
  Register(const char* name, Launcher launcher) { launchers()[name] = launcher; }
};

}  // namespace planted
