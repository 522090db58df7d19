// Where in a kernel's source something was called, and how a report names it.
#pragma once

#include <string>

namespace simt {

struct Site {
  const char* file = nullptr;
  int line = 0;

  bool operator==(const Site& other) const { return file == other.file && line == other.line; }
  std::string str() const {
    const std::string path = file;
    return path.substr(path.rfind('/') + 1) + ":" + std::to_string(line);
  }
};

}  // namespace simt

// The last parameter of every intrinsic that can be reported: the caller's own place.
#define SIMT_SITE ::simt::Site site = {__builtin_FILE(), __builtin_LINE()}
