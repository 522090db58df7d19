// The instructions of sm_80 by which matrices reach the tensor cores, each under a name:
// asynchronous copies to shared memory, fragment loads, and the product itself. Hopper runs
// them as well. The tests emulate exactly these (tests/simt/simt/mma.h).
#pragma once

#include "device.h"
#include "dtype.h"

// Whether the code being compiled may use them.
#if defined(HPVOD_SIMT)
#define HPVOD_HAS_MMA 1
#include "simt/mma.h"
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define HPVOD_HAS_MMA 1

namespace hpvod {
namespace detail {

HPVOD_HOST_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

}  // namespace detail

// The same value, of which the compiler no longer knows where it comes from: what is computed
// from it inside a loop stays there, where it would cost a register each to be kept outside.
HPVOD_HOST_DEVICE int opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

// Begins to copy 16 bytes from global to shared memory, past L1; where `inside` is false,
// it writes zeros and reads nothing. Both addresses are multiples of 16.
HPVOD_HOST_DEVICE void cp_async_16(void* shared, const void* global, bool inside) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(detail::shared_address(shared)),
      "l"(global), "r"(inside ? 16 : 0)
      : "memory");
}

// Closes a group of this thread's copies; an empty one counts as well.
HPVOD_HOST_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but the last kGroups groups of this thread have arrived. For the copies of
// other threads, a barrier must follow.
template <int kGroups>
HPVOD_HOST_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

// Loads four 8x8 matrices of 16-bit elements. Lane 8 * m + r gives the address of row r of
// matrix m, a multiple of 16; lane 4 * r + c gets elements 2 * c and 2 * c + 1 of row r of
// matrix m in fragment[m].
HPVOD_HOST_DEVICE void ldmatrix_x4(uint32_t (&fragment)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(detail::shared_address(row))
               : "memory");
}

// sum[16][8] += a[16][16] * b[16][8], accumulated in float. With g = lane / 4 and t = lane % 4,
// a lane holds, two elements (the even column or row first) a register,
//   a[g][2t], a[g + 8][2t], a[g][2t + 8], a[g + 8][2t + 8];
//   b[2t][g], b[2t + 8][g];
// and, one element a register, sum[g][2t], sum[g][2t + 1], sum[g + 8][2t], sum[g + 8][2t + 1].
HPVOD_HOST_DEVICE void mma_m16n8k16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t b0,
                                    const uint32_t b1, BFloat16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

HPVOD_HOST_DEVICE void mma_m16n8k16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t b0,
                                    const uint32_t b1, Half) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace hpvod
#else
#define HPVOD_HAS_MMA 0
#endif
