// Shared memory of a block. simt_build.py rewrites
//     __shared__ float tile[32][33];
//     extern __shared__ float scratch[];
// to
//     struct simt_0 {}; auto& tile = simt::shared_variable<simt_0, float[32][33]>();
//     auto* scratch = simt::dynamic_shared<float>();
// so that every variable is a heap allocation of exactly its size: AddressSanitizer sees
// what runs over its end, which it does not for a `static` in a template.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace simt {

// What every device grants a block; and what every device since sm_80 does to a kernel that
// cudaFuncSetAttribute was called for.
constexpr size_t kMaxSharedBytes = 48 * 1024;
constexpr size_t kMaxOptInSharedBytes = 99 * 1024;

class SharedMemory {
 public:
  explicit SharedMemory(size_t dynamic_bytes) : dynamic_bytes_(dynamic_bytes) {}

  void begin_block() {
    total_ = dynamic_bytes_;
    dynamic_ = allocate(dynamic_bytes_, 128);
  }
  void end_block() {
    std::free(dynamic_);
    for (const Variable& variable : variables_) std::free(variable.memory);
    variables_.clear();
  }

  void* dynamic() const { return dynamic_; }
  // `key` tells the variables of a kernel apart.
  void* variable(const void* key, size_t bytes, size_t alignment) {
    for (const Variable& variable : variables_) {
      if (variable.key == key) return variable.memory;
    }
    variables_.push_back({key, allocate(bytes, alignment)});
    total_ += bytes;
    return variables_.back().memory;
  }
  size_t total() const { return total_; }

 private:
  struct Variable {
    const void* key;
    void* memory;
  };

  // All ones (NaN, -1) until the block writes it, so that a read before a write shows.
  static void* allocate(size_t bytes, size_t alignment) {
    void* memory = nullptr;
    if (posix_memalign(&memory, std::max(alignment, sizeof(void*)), bytes) != 0) std::abort();
    return std::memset(memory, 0xff, bytes);
  }

  size_t dynamic_bytes_;
  size_t total_ = 0;
  void* dynamic_ = nullptr;
  std::vector<Variable> variables_;
};

}  // namespace simt
