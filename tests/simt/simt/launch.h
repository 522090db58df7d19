// hpvod::launch (csrc/kernels/device.h) and the little of the runtime API that launchers use.
#pragma once

#include <cstddef>
#include <cstring>
#include <map>
#include <string>
#include <tuple>

#include "block.h"

struct CUstream_st;
using cudaStream_t = CUstream_st*;

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "invalid argument";
}
inline cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}

namespace simt {

// What a kernel may have beyond kMaxSharedBytes; device.h grants it.
inline std::map<const void*, size_t> granted_shared_bytes;

// CUDA's limits; null, or which one the launch breaks.
inline const char* refuse_launch(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes) {
  const auto volume = [](dim3 d) { return uint64_t{d.x} * d.y * d.z; };
  if (volume(grid) == 0 || volume(block) == 0) return "a grid and a block need at least 1 thread";
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    return "a grid has at most 2^31-1 x 65535 x 65535 blocks";
  }
  if (block.x > 1024 || block.y > 1024 || block.z > 64 || volume(block) > 1024) {
    return "a block has at most 1024 threads, and 64 along z";
  }
  const auto granted = granted_shared_bytes.find(kernel);
  const size_t limit = granted == granted_shared_bytes.end() ? kMaxSharedBytes : granted->second;
  if (shared_bytes > limit) {
    return "a block has at most 48 KiB of shared memory, or what its kernel was granted";
  }
  return nullptr;
}

// Null, or a report that lives until the next launch.
inline const char* run_grid(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes,
                            std::function<void()> body) {
  static std::string report;
  if (Block::current_block != nullptr) {
    Block::current_block->fail("a kernel launches a kernel (dynamic parallelism)");
  }
  if (const char* reason = refuse_launch(kernel, grid, block, shared_bytes)) {
    report = std::string("simt: invalid launch: ") + reason + "; kernel " + kernel_name(kernel) +
             ", grid " + str({grid.x, grid.y, grid.z}) + ", block " +
             str({block.x, block.y, block.z}) + ", " + std::to_string(shared_bytes) +
             " bytes of dynamic shared memory";
    return report.c_str();
  }
  gridDim = grid;
  blockDim = block;
  Block runner(kernel, block, shared_bytes, std::move(body));
  for (unsigned i : run_order(size_t{grid.x} * grid.y * grid.z)) {
    blockIdx = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    report = runner.run();
    if (!report.empty()) return report.c_str();
  }
  return nullptr;
}

#ifdef __SANITIZE_ADDRESS__
// The sanitizers name the line; which thread ran it, only we know.
inline const bool names_thread_at_death = [] {
  __sanitizer_set_death_callback([] {
    if (const Block* block = Block::current_block) {
      std::fprintf(stderr, "simt: in %s\n", block->where_running().c_str());
    }
  });
  return true;
}();
#endif

}  // namespace simt

namespace hpvod {

template <typename... Params, typename... Args>
const char* launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t, Args... args) {
  const std::tuple<std::decay_t<Params>...> params(args...);
  return simt::run_grid(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
                        [&] { std::apply(kernel, params); });
}

}  // namespace hpvod
