// Element types, without torch and without CUDA's headers, so that the same
// definitions serve nvcc, NVRTC (sm_35 too), the CPU kernels and tests/simt.
#pragma once

#ifdef __CUDACC_RTC__
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using int32_t = int;
using int64_t = long long;
#else
#include <cstdint>
#include <cstring>
#endif

#ifdef __CUDACC__
#define HPVOD_HOST_DEVICE __host__ __device__ __forceinline__
#else
// Always inlined: csrc/cpu/isa compiles these for several instruction sets, and the linker
// would keep but one copy of a function that was not.
#define HPVOD_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace hpvod {

enum class DType { kFloat32, kFloat16, kBFloat16, kFloat64 };

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

namespace detail {

HPVOD_HOST_DEVICE float float_from_bits(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
#endif
}

HPVOD_HOST_DEVICE uint32_t bits_from_float(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
#endif
}

}  // namespace detail

// The type in which a value of type T is computed with.
template <typename T>
struct AccumulateType {
  using type = float;
};
template <>
struct AccumulateType<double> {
  using type = double;
};
template <typename T>
using accumulate_t = typename AccumulateType<T>::type;

HPVOD_HOST_DEVICE float widen(float value) { return value; }
HPVOD_HOST_DEVICE double widen(double value) { return value; }

HPVOD_HOST_DEVICE float widen(BFloat16 value) {
  return detail::float_from_bits(static_cast<uint32_t>(value.bits) << 16);
}

HPVOD_HOST_DEVICE float widen(Half value) {
#ifdef __CUDA_ARCH__
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#else
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity and NaN keep their payload
    return detail::float_from_bits(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  }
  // Shifting exponent and mantissa into place leaves the exponent 112 too small;
  // multiplying by 2^112 mends it and normalises subnormals in the same step.
  const float scaled = detail::float_from_bits(magnitude << 13) * 0x1p112f;
  return detail::float_from_bits(sign | detail::bits_from_float(scaled));
#endif
}

// Rounds to nearest, ties to even.
template <typename T>
HPVOD_HOST_DEVICE T narrow(accumulate_t<T> value);

template <>
HPVOD_HOST_DEVICE float narrow<float>(float value) {
  return value;
}

template <>
HPVOD_HOST_DEVICE double narrow<double>(double value) {
  return value;
}

template <>
HPVOD_HOST_DEVICE BFloat16 narrow<BFloat16>(float value) {
  const uint32_t bits = detail::bits_from_float(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return BFloat16{0x7fc0u};
  return BFloat16{static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

template <>
HPVOD_HOST_DEVICE Half narrow<Half>(float value) {
#ifdef __CUDA_ARCH__
  Half result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#else
  const uint32_t bits = detail::bits_from_float(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return Half{static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return Half{static_cast<uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {
    // Adding 0.5 aligns the mantissa so that the addition itself rounds a
    // subnormal half to its last place.
    const float aligned = detail::float_from_bits(magnitude) + 0.5f;
    return Half{static_cast<uint16_t>(sign | (detail::bits_from_float(aligned) - 0x3f000000u))};
  }
  const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
  return Half{static_cast<uint16_t>(sign | (rounded >> 13))};
#endif
}

}  // namespace hpvod
