// Several neighbouring elements of a map, moved by one memory instruction.
#pragma once

#include "dtype.h"

namespace hpvod {

// Elements in the widest access that a GPU has, 16 bytes.
template <typename T>
constexpr int kVectorWidth = 16 / static_cast<int>(sizeof(T));

namespace detail {

template <int kBytes>
struct Words {
  uint32_t word[kBytes / 4];
};
template <>
struct Words<2> {
  uint16_t word[1];
};

#ifdef __CUDA_ARCH__
// The builtin type by which an access of so many bytes is one instruction.
template <int kBytes>
struct Access;
template <>
struct Access<2> {
  using type = unsigned short;
};
template <>
struct Access<4> {
  using type = unsigned int;
};
template <>
struct Access<8> {
  using type = uint2;
};
template <>
struct Access<16> {
  using type = uint4;
};
#endif

}  // namespace detail

// The elements stay as they came from memory until one is asked for: a 16-byte vector in
// flight then costs four registers whatever its type. (As an array of 16-bit elements,
// the compiler gives each a register of its own as soon as it is loaded.)
template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth) Vector {
  detail::Words<sizeof(T) * kWidth> words;

  HPVOD_HOST_DEVICE accumulate_t<T> operator[](int i) const {
    T value;
    if constexpr (sizeof(T) == 2 && kWidth > 1) {
      value.bits = static_cast<uint16_t>(words.word[i / 2] >> i % 2 * 16);
    } else {
      memcpy(&value, &words.word[i * sizeof(T) / sizeof(words.word[0])], sizeof(T));
    }
    return widen(value);
  }
};

// Reads through the read-only path, which L1 keeps: for what neighbours read as well.
// The kernel must not write where it reads.
template <int kWidth, typename T>
HPVOD_HOST_DEVICE Vector<T, kWidth> load(const T* address) {
  Vector<T, kWidth> vector;
#ifdef __CUDA_ARCH__
  using Access = typename detail::Access<sizeof(vector)>::type;
  const Access words = __ldg(reinterpret_cast<const Access*>(address));
  memcpy(&vector, &words, sizeof(vector));
#else
  vector = *reinterpret_cast<const Vector<T, kWidth>*>(address);
#endif
  return vector;
}

// Reads what is read once: first to leave the caches.
template <int kWidth, typename T>
HPVOD_HOST_DEVICE Vector<T, kWidth> load_once(const T* address) {
  Vector<T, kWidth> vector;
#ifdef __CUDA_ARCH__
  using Access = typename detail::Access<sizeof(vector)>::type;
  const Access words = __ldcs(reinterpret_cast<const Access*>(address));
  memcpy(&vector, &words, sizeof(vector));
#else
  vector = *reinterpret_cast<const Vector<T, kWidth>*>(address);
#endif
  return vector;
}

// Writes what the kernel does not read again: first to leave the caches, so that the
// inputs stay in them.
template <int kWidth, typename T>
HPVOD_HOST_DEVICE void store_once(T* address, const Vector<T, kWidth>& vector) {
#ifdef __CUDA_ARCH__
  using Access = typename detail::Access<sizeof(vector)>::type;
  Access words;
  memcpy(&words, &vector, sizeof(vector));
  __stcs(reinterpret_cast<Access*>(address), words);
#else
  *reinterpret_cast<Vector<T, kWidth>*>(address) = vector;
#endif
}

namespace detail {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
// sm_80 rounds and packs two elements in one instruction; in integer arithmetic
// bfloat16 takes some six for each.
HPVOD_HOST_DEVICE uint32_t narrow_pair(float low, float high, BFloat16) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

HPVOD_HOST_DEVICE uint32_t narrow_pair(float low, float high, Half) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
#else
template <typename T>
HPVOD_HOST_DEVICE uint32_t narrow_pair(float low, float high, T) {
  return narrow<T>(low).bits | static_cast<uint32_t>(narrow<T>(high).bits) << 16;
}
#endif

}  // namespace detail

template <typename T, int kWidth>
HPVOD_HOST_DEVICE Vector<T, kWidth> narrow_vector(const accumulate_t<T> (&values)[kWidth]) {
  Vector<T, kWidth> vector;
  if constexpr (sizeof(T) == 2 && kWidth > 1) {
#pragma unroll
    for (int i = 0; i < kWidth; i += 2) {
      vector.words.word[i / 2] = detail::narrow_pair(values[i], values[i + 1], T{});
    }
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const T value = narrow<T>(values[i]);
      memcpy(&vector.words.word[i * sizeof(T) / sizeof(vector.words.word[0])], &value, sizeof(T));
    }
  }
  return vector;
}

}  // namespace hpvod
