// A NumPy array's place in "device" memory, for bindings: a copy of exactly its size.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

// Its address modulo 256 is the array's own, so that a slice stays as misaligned as it was.
// Around it lie guard bytes: AddressSanitizer reports who touches them, and without it
// the checks below find that someone has written there.
class Buffer {
 public:
  explicit Buffer(const pybind11::array& array)
      : bytes_(static_cast<size_t>(array.nbytes())),
        offset_(kGuard + reinterpret_cast<uintptr_t>(array.data()) % kGuard) {
    if ((array.flags() & pybind11::array::c_style) == 0) {
      throw std::invalid_argument("simt::Buffer takes C-contiguous arrays");
    }
    void* memory = nullptr;
    if (posix_memalign(&memory, kGuard, total()) != 0) throw std::bad_alloc();
    memory_ = static_cast<unsigned char*>(memory);
    std::fill_n(memory_, total(), kPattern);
    std::memcpy(memory_ + offset_, array.data(), bytes_);
    watch(true);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    watch(false);
    std::free(memory_);
  }

  void* data() { return memory_ + offset_; }

  void copy_back(pybind11::array& array) {
    check_guards();
    std::memcpy(array.mutable_data(), memory_ + offset_, bytes_);
  }
  void check_unchanged(const pybind11::array& array) {
    check_guards();
    if (std::memcmp(array.data(), memory_ + offset_, bytes_) != 0) {
      throw std::runtime_error("simt: a kernel wrote to its input");
    }
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr unsigned char kPattern = 0xc3;

  size_t total() const { return offset_ + bytes_ + kGuard; }

  void check_guards() {
    watch(false);
    const auto untouched = [](unsigned char byte) { return byte == kPattern; };
    if (!std::all_of(memory_, memory_ + offset_, untouched) ||
        !std::all_of(memory_ + offset_ + bytes_, memory_ + total(), untouched)) {
      throw std::runtime_error("simt: a kernel wrote outside a buffer");
    }
  }

  void watch([[maybe_unused]] bool on) {
#ifdef __SANITIZE_ADDRESS__
    const auto mark = on ? __asan_poison_memory_region : __asan_unpoison_memory_region;
    mark(memory_, offset_);
    mark(memory_ + offset_ + bytes_, kGuard);
#endif
  }

  size_t bytes_;
  size_t offset_;
  unsigned char* memory_;
};

}  // namespace simt
