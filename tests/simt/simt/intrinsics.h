// Barriers, warp functions, bits and loads.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "block.h"

namespace simt {

// `Tag` is a type local to the kernel: it differs between variables and instantiations.
template <typename Tag, typename T>
T& shared_variable(size_t alignment = alignof(T)) {
  static const char key = 0;
  Block& block = *Block::current_block;
  void* memory = block.shared().variable(&key, sizeof(T), alignment);
  if (block.shared().total() > kMaxSharedBytes) {
    block.fail("more than " + std::to_string(kMaxSharedBytes) + " bytes of shared memory");
  }
  return *static_cast<T*>(memory);
}

template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(Block::current_block->shared().dynamic());
}

template <typename T>
uint64_t to_bits(T value) {
  static_assert(std::is_arithmetic_v<T>, "simt: shuffles move numbers only");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(value));
  return bits;
}

template <typename T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// `source` maps the lane, the first and the last lane of its segment to the lane read.
template <typename T, typename Source>
T shuffle(const char* name, unsigned mask, T value, int width, Site site, Source source) {
  Block& block = *Block::current_block;
  if (width < 1 || width > warpSize || (width & (width - 1)) != 0) {
    block.fail(std::string(name) + " at " + site.str() + ": width " + std::to_string(width));
  }
  const int lane = static_cast<int>(block.running_lane());
  const int first = lane & ~(width - 1);
  const int from = source(lane, first, first + width - 1);
  return from_bits<T>(block.warp_call({name, mask, site, to_bits(value), from}, /*vote=*/false));
}

inline unsigned vote(const char* name, unsigned mask, bool predicate, Site site) {
  const auto value = static_cast<uint64_t>(predicate);
  return static_cast<unsigned>(
      Block::current_block->warp_call({name, mask, site, value, 0}, /*vote=*/true));
}

// Rounds like the device: NaN gives 0, too large a value the nearest integer there is.
template <typename Integer, typename T>
Integer saturate(T rounded) {
  using Limits = std::numeric_limits<Integer>;
  if (rounded != rounded) return 0;
  if (rounded <= static_cast<T>(Limits::min())) return Limits::min();
  if (rounded >= static_cast<T>(Limits::max())) return Limits::max();
  return static_cast<Integer>(rounded);
}

}  // namespace simt

inline void __syncthreads(SIMT_SITE) { simt::Block::current_block->block_barrier(0, site); }
inline int __syncthreads_count(int predicate, SIMT_SITE) {
  return simt::Block::current_block->block_barrier(predicate, site);
}
inline int __syncthreads_or(int predicate, SIMT_SITE) {
  return simt::Block::current_block->block_barrier(predicate, site) > 0;
}
inline int __syncthreads_and(int predicate, SIMT_SITE) {
  return simt::Block::current_block->block_barrier(predicate == 0, site) == 0;
}

inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_SITE) {
  simt::vote("__syncwarp", mask, false, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_SITE) {
  return simt::vote("__ballot_sync", mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, SIMT_SITE) {
  return simt::vote("__any_sync", mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, SIMT_SITE) {
  return simt::vote("__all_sync", mask, predicate == 0, site) == 0;
}
inline unsigned __activemask(SIMT_SITE) { return simt::Block::current_block->active_mask(site); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = warpSize, SIMT_SITE) {
  return simt::shuffle("__shfl_sync", mask, value, width, site,
                       [&](int, int first, int) { return first | (lane & (width - 1)); });
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, SIMT_SITE) {
  return simt::shuffle("__shfl_up_sync", mask, value, width, site, [&](int own, int first, int) {
    return delta > static_cast<unsigned>(own - first) ? own : own - static_cast<int>(delta);
  });
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, SIMT_SITE) {
  return simt::shuffle("__shfl_down_sync", mask, value, width, site, [&](int own, int, int last) {
    return delta > static_cast<unsigned>(last - own) ? own : own + static_cast<int>(delta);
  });
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize, SIMT_SITE) {
  return simt::shuffle("__shfl_xor_sync", mask, value, width, site, [&](int own, int, int last) {
    const int other = own ^ (lane_mask & (warpSize - 1));
    return other > last ? own : other;  // an earlier segment may be read, a later one not
  });
}

inline void __threadfence() {}
inline void __threadfence_block() {}

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline int __clz(int value) {
  return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value));
}
inline int __clzll(long long value) {
  return value == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(value));
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}

inline int __float_as_int(float value) { return simt::from_bits<int>(simt::to_bits(value)); }
inline unsigned __float_as_uint(float value) {
  return simt::from_bits<unsigned>(simt::to_bits(value));
}
inline float __int_as_float(int value) { return simt::from_bits<float>(simt::to_bits(value)); }
inline float __uint_as_float(unsigned value) {
  return simt::from_bits<float>(simt::to_bits(value));
}
inline int __float2int_rd(float value) { return simt::saturate<int>(std::floor(value)); }
inline int __float2int_rn(float value) { return simt::saturate<int>(std::nearbyint(value)); }
inline int __float2int_rz(float value) { return simt::saturate<int>(std::trunc(value)); }
inline int __double2int_rd(double value) { return simt::saturate<int>(std::floor(value)); }

inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }

using std::isfinite;
using std::isinf;
using std::isnan;

template <typename T>
T min(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) return std::fmin(a, b);  // a NaN loses
  return b < a ? b : a;
}
template <typename T>
T max(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) return std::fmax(a, b);
  return a < b ? b : a;
}
