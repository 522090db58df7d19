// Atomics: one OS thread runs everything, so a plain read and write is one.
// Overloads, not templates: a type that the device has no atomic for must not compile.
#pragma once

namespace simt {

template <typename T, typename Update>
T fetch(T* address, Update update) {
  const T old = *address;
  *address = update(old);
  return old;
}

}  // namespace simt

#define SIMT_ATOMIC_ADD(T)                                                 \
  inline T atomicAdd(T* a, T v) {                                          \
    return simt::fetch(a, [v](T old) { return static_cast<T>(old + v); }); \
  }
#define SIMT_ATOMIC_EXCHANGE(T)                  \
  inline T atomicExch(T* a, T v) {               \
    return simt::fetch(a, [v](T) { return v; }); \
  }
#define SIMT_ATOMIC_INTEGER(T)                                 \
  inline T atomicMin(T* a, T v) {                              \
    return simt::fetch(a, [v](T o) { return o < v ? o : v; }); \
  }                                                            \
  inline T atomicMax(T* a, T v) {                              \
    return simt::fetch(a, [v](T o) { return o > v ? o : v; }); \
  }                                                            \
  inline T atomicAnd(T* a, T v) {                              \
    return simt::fetch(a, [v](T o) { return o & v; });         \
  }                                                            \
  inline T atomicOr(T* a, T v) {                               \
    return simt::fetch(a, [v](T o) { return o | v; });         \
  }                                                            \
  inline T atomicXor(T* a, T v) {                              \
    return simt::fetch(a, [v](T o) { return o ^ v; });         \
  }
#define SIMT_ATOMIC_CAS(T)                                                  \
  inline T atomicCAS(T* a, T compare, T v) {                                \
    return simt::fetch(a, [=](T old) { return old == compare ? v : old; }); \
  }

SIMT_ATOMIC_ADD(float)
SIMT_ATOMIC_ADD(double)
SIMT_ATOMIC_ADD(unsigned long long)
SIMT_ATOMIC_EXCHANGE(float)

// The device's integers wrap around.
inline unsigned atomicAdd(unsigned* a, unsigned v) {
  return simt::fetch(a, [v](unsigned old) { return old + v; });
}
inline int atomicAdd(int* a, int v) {
  return simt::fetch(a, [v](int old) {
    return static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(v));
  });
}

SIMT_ATOMIC_EXCHANGE(int)
SIMT_ATOMIC_EXCHANGE(unsigned)
SIMT_ATOMIC_EXCHANGE(unsigned long long)
SIMT_ATOMIC_INTEGER(int)
SIMT_ATOMIC_INTEGER(unsigned)
SIMT_ATOMIC_INTEGER(long long)
SIMT_ATOMIC_INTEGER(unsigned long long)
SIMT_ATOMIC_CAS(int)
SIMT_ATOMIC_CAS(unsigned)
SIMT_ATOMIC_CAS(unsigned short)
SIMT_ATOMIC_CAS(unsigned long long)

#undef SIMT_ATOMIC_ADD
#undef SIMT_ATOMIC_EXCHANGE
#undef SIMT_ATOMIC_INTEGER
#undef SIMT_ATOMIC_CAS
