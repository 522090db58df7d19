// A vector register of this instruction set as a value, through the vector extensions
// that GCC and Clang share. Included only by csrc/cpu/isa/*.cpp: everything lives in the
// namespace HPVOD_ISA, so that no function compiled for a newer processor can be linked
// into the path of an older one.
#pragma once

#include <cstring>
#include <type_traits>
#include <utility>

#include "../../kernels/dtype.h"

#ifdef __F16C__
#include <immintrin.h>
#endif

#define HPVOD_INLINE inline __attribute__((always_inline))

namespace hpvod {
namespace HPVOD_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename E, int kCount>
struct VectorOf {
  typedef E type __attribute__((vector_size(sizeof(E) * kCount)));
};

// How many elements of type T a register of accumulate_t<T> holds.
template <typename T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(accumulate_t<T>));

template <typename T>
using Vector = typename VectorOf<accumulate_t<T>, kLanes<T>>::type;

// What selects lanes of a Vector<T>: all bits of a lane are 1, or 0.
template <typename T>
using Bits = std::conditional_t<sizeof(accumulate_t<T>) == 8, int64_t, int32_t>;
template <typename T>
using BitVector = typename VectorOf<Bits<T>, kLanes<T>>::type;

template <typename To, typename From>
HPVOD_INLINE To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

template <typename T>
HPVOD_INLINE Vector<T> load(const T* source) {
  [[maybe_unused]] constexpr int lanes = kLanes<T>;
  if constexpr (std::is_same_v<T, accumulate_t<T>>) {
    Vector<T> value;
    memcpy(&value, source, sizeof(value));
    return value;
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    // Intrinsics, for of a conversion between such vectors GCC makes four instructions.
#if defined(__AVX512F__)
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
    return bit_cast<Vector<T>>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#elif defined(__AVX2__)
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
    return bit_cast<Vector<T>>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
#else
    typename VectorOf<uint16_t, lanes>::type bits;
    memcpy(&bits, source, sizeof(bits));
    using Wide = typename VectorOf<uint32_t, lanes>::type;
    return bit_cast<Vector<T>>(__builtin_convertvector(bits, Wide) << 16);
#endif
  } else {
#if defined(__AVX512F__)
    return bit_cast<Vector<T>>(
        _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source))));
#elif defined(__F16C__)
    return bit_cast<Vector<T>>(
        _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source))));
#else
    Vector<T> value;
    for (int i = 0; i < lanes; ++i) value[i] = widen(source[i]);
    return value;
#endif
  }
}

template <typename T>
HPVOD_INLINE void store(T* target, Vector<T> value) {
  [[maybe_unused]] constexpr int lanes = kLanes<T>;
  if constexpr (std::is_same_v<T, accumulate_t<T>>) {
    memcpy(target, &value, sizeof(value));
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    // As narrow<BFloat16>, on all lanes at once.
    using Wide = typename VectorOf<uint32_t, lanes>::type;
    const Wide bits = bit_cast<Wide>(value);
    const Wide rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const Wide selected = (bits & 0x7fffffffu) > 0x7f800000u ? Wide{} + 0x7fc0u : rounded;
#if defined(__AVX512F__)
    const auto narrowed = _mm512_cvtepi32_epi16(bit_cast<__m512i>(selected));
#else
    const auto narrowed =
        __builtin_convertvector(selected, typename VectorOf<uint16_t, lanes>::type);
#endif
    memcpy(target, &narrowed, sizeof(narrowed));
  } else {
#if defined(__AVX512F__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target),
                        _mm512_cvtps_ph(bit_cast<__m512>(value), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target),
                     _mm256_cvtps_ph(bit_cast<__m256>(value), _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < lanes; ++i) target[i] = narrow<T>(value[i]);
#endif
  }
}

// source[index[i]] in lane i.
template <typename T>
HPVOD_INLINE Vector<T> gather(const T* source, const int32_t* index) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    return bit_cast<Vector<T>>(_mm512_i32gather_ps(_mm512_loadu_si512(index), source, 4));
  }
#endif
  Vector<T> value;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<T>; ++i) value[i] = widen(source[index[i]]);
  return value;
}

// The first `count` elements only, all at most; other lanes read as zero and are not written.
template <typename T>
HPVOD_INLINE Vector<T> load(const T* source, int64_t count) {
  if (count == kLanes<T>) return load(source);
  T buffer[kLanes<T>] = {};
  memcpy(buffer, source, count * sizeof(T));
  return load(buffer);
}

template <typename T>
HPVOD_INLINE void store(T* target, Vector<T> value, int64_t count) {
  if (count == kLanes<T>) return store(target, value);
  T buffer[kLanes<T>];
  store(buffer, value);
  memcpy(target, buffer, count * sizeof(T));
}

// a * b + c, rounded once where this instruction set can: of an expression, the compiler may
// choose for each place anew, and equal inputs must give equal bits.
template <typename V>
HPVOD_INLINE V multiply_add(V a, V b, V c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(c[0]) == 4) {
    return bit_cast<V>(
        _mm512_fmadd_ps(bit_cast<__m512>(a), bit_cast<__m512>(b), bit_cast<__m512>(c)));
  } else {
    return bit_cast<V>(
        _mm512_fmadd_pd(bit_cast<__m512d>(a), bit_cast<__m512d>(b), bit_cast<__m512d>(c)));
  }
#elif defined(__FMA__)
  if constexpr (sizeof(c[0]) == 4) {
    return bit_cast<V>(
        _mm256_fmadd_ps(bit_cast<__m256>(a), bit_cast<__m256>(b), bit_cast<__m256>(c)));
  } else {
    return bit_cast<V>(
        _mm256_fmadd_pd(bit_cast<__m256d>(a), bit_cast<__m256d>(b), bit_cast<__m256d>(c)));
  }
#else
  return a * b + c;
#endif
}

// Of all lanes, in pairs: of the orders, the one that rounds least.
template <typename A, int kCount>
HPVOD_INLINE A sum_lanes(typename VectorOf<A, kCount>::type value) {
  if constexpr (kCount == 2) {
    return value[0] + value[1];
  } else {
    struct Halves {
      typename VectorOf<A, kCount / 2>::type low, high;
    };
    const auto halves = bit_cast<Halves>(value);
    return sum_lanes<A, kCount / 2>(halves.low + halves.high);
  }
}

template <typename T>
HPVOD_INLINE accumulate_t<T> sum(Vector<T> value) {
  return sum_lanes<accumulate_t<T>, kLanes<T>>(value);
}

// Of each 2x2 block in which `a` is the upper row and `b` the lower, blocks kStep lanes wide:
// swaps the upper right and the lower left.
template <int kStep, typename V, int... kLane>
HPVOD_INLINE void swap_off_diagonal(V& a, V& b, std::integer_sequence<int, kLane...>) {
  constexpr int lanes = sizeof...(kLane);
  const V upper = a, lower = b;
#ifdef __clang__
  a = __builtin_shufflevector(upper, lower, (kLane & kStep ? lanes + kLane - kStep : kLane)...);
  b = __builtin_shufflevector(upper, lower, (kLane & kStep ? lanes + kLane : kLane + kStep)...);
#else
  using Index = decltype(a < b);
  a = __builtin_shuffle(upper, lower, Index{(kLane & kStep ? lanes + kLane - kStep : kLane)...});
  b = __builtin_shuffle(upper, lower, Index{(kLane & kStep ? lanes + kLane : kLane + kStep)...});
#endif
}

// Transposes a square of kSize vectors of kSize lanes in place, from blocks of half its size
// down to single lanes (Eklundh): no row has to wait in memory for its place.
template <int kSize, int kStep = kSize / 2, typename V>
HPVOD_INLINE void transpose(V (&rows)[kSize]) {
  if constexpr (kStep > 0) {
#pragma GCC unroll 32
    for (int i = 0; i < kSize; ++i) {
      if (i & kStep) continue;
      swap_off_diagonal<kStep>(rows[i], rows[i + kStep], std::make_integer_sequence<int, kSize>());
    }
    transpose<kSize, kStep / 2>(rows);
  }
}

}  // namespace HPVOD_ISA
}  // namespace hpvod
