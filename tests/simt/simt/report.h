// Words for what went wrong: which kernel, block, threads and barrier.
#pragma once

#include <dlfcn.h>

#include <cstdio>
#include <string>

#include "types.h"

namespace simt {

inline std::string str(const uint3& v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

inline std::string hex(unsigned mask) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", mask);
  return text;
}

// Kernels are mostly templates in unnamed namespaces, which the dynamic symbol table
// leaves out; addr2line reads the full one. Only a failure pays for it.
inline std::string kernel_name(const void* kernel) {
  Dl_info info;
  if (dladdr(kernel, &info) == 0) return "?";
  char command[4096];
  std::snprintf(command, sizeof(command), "addr2line -f -C -e '%s' %p 2>/dev/null", info.dli_fname,
                reinterpret_cast<const void*>(static_cast<const char*>(kernel) -
                                              static_cast<const char*>(info.dli_fbase)));
  char line[4096] = "?";
  if (FILE* pipe = popen(command, "r")) {
    if (std::fgets(line, sizeof(line), pipe) == nullptr) line[0] = '?';
    pclose(pipe);
  }
  std::string name = line;
  while (!name.empty() && name.back() == '\n') name.pop_back();
  return name;
}

}  // namespace simt
