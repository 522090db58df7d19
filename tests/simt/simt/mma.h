// csrc/kernels/mma.h for the CPU: the same names, the fragments laid out as PTX documents them.
//
// A copy to shared memory happens when its thread waits for it and no sooner: what a kernel
// reads without waiting is what was there before.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "../simt.h"
#include "dtype.h"

namespace simt {

struct Copy {
  void* shared;
  const void* global;
  bool inside;
};

// A thread's groups of copies that have not arrived, the open one last.
struct CopyQueue {
  std::deque<std::vector<Copy>> groups = std::deque<std::vector<Copy>>(1);
  uint3 block = {};

  void arrive(size_t pending) {
    for (; groups.size() > pending + 1; groups.pop_front()) {
      for (const Copy& copy : groups.front()) {
        if (copy.inside) {
          std::memcpy(copy.shared, copy.global, 16);
        } else {
          std::memset(copy.shared, 0, 16);
        }
      }
    }
  }
};

// What a lane shows its warp. Two, used in turn: while a lane still reads the one, no other
// lane can be further than writing the other.
struct Fragments {
  const void* row;
  uint32_t a[4];
  uint32_t b[2];
};

struct MmaLane {
  CopyQueue copies;
  Fragments shown[2];
  unsigned turn = 0;
};

inline MmaLane mma_lanes[1024];

inline unsigned linear_thread() {
  return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}

inline CopyQueue& copy_queue() {
  CopyQueue& queue = mma_lanes[linear_thread()].copies;
  if (queue.block.x != blockIdx.x || queue.block.y != blockIdx.y || queue.block.z != blockIdx.z) {
    if (queue.groups.size() > 1 || !queue.groups.back().empty()) {
      queue.groups.assign(1, {});
      Block::current_block->fail("a thread of block " + str(queue.block) +
                                 " returned without waiting for its cp_async");
    }
    queue.block = blockIdx;
  }
  return queue;
}

inline void check_aligned(const char* name, const void* address) {
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) {
    Block::current_block->fail(std::string(name) + " at an address that is no multiple of 16");
  }
}

// Shows `own` to the warp; what the whole warp shows, lane by lane in steps of sizeof(MmaLane).
class Warp {
 public:
  Warp(const char* name, const Fragments& own, Site site)
      : first_(mma_lanes + linear_thread() / warpSize * warpSize),
        turn_(mma_lanes[linear_thread()].turn++ % 2) {
    mma_lanes[linear_thread()].shown[turn_] = own;
    vote(name, 0xffffffffu, false, site);
  }
  const Fragments& operator[](unsigned lane) const { return first_[lane].shown[turn_]; }

 private:
  const MmaLane* first_;
  unsigned turn_;
};

template <typename T>
void mma(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Site site) {
  const Warp warp("mma_m16n8k16", {nullptr, {a[0], a[1], a[2], a[3]}, {b0, b1}}, site);
  const unsigned lane = Block::current_block->running_lane(), g = lane / 4, t = lane % 4;
  const auto element = [](uint32_t pair, unsigned i) {
    return hpvod::widen(T{static_cast<uint16_t>(pair >> 16 * i)});
  };
  for (unsigned k = 0; k < 16; ++k) {
    const unsigned owner = k % 8 / 2;  // of column k of a, row k of b, within their four lanes
    const unsigned high = k / 8;
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned lower_row = i / 2, column = 2 * t + i % 2;
      sum[i] += element(warp[4 * g + owner].a[2 * high + lower_row], k % 2) *
                element(warp[4 * column + owner].b[high], k % 2);
    }
  }
}

}  // namespace simt

namespace hpvod {

inline int opaque(int value) { return value; }

inline void cp_async_16(void* shared, const void* global, bool inside) {
  simt::check_aligned("cp_async_16", shared);
  simt::check_aligned("cp_async_16", global);
  simt::copy_queue().groups.back().push_back({shared, global, inside});
}

inline void cp_async_commit() { simt::copy_queue().groups.emplace_back(); }

template <int kGroups>
void cp_async_wait() {
  simt::copy_queue().arrive(kGroups);
}

inline void ldmatrix_x4(uint32_t (&fragment)[4], const void* row, SIMT_SITE) {
  simt::check_aligned("ldmatrix_x4", row);
  const simt::Warp warp("ldmatrix_x4", {row, {}, {}}, site);
  const unsigned lane = simt::Block::current_block->running_lane();
  for (unsigned matrix = 0; matrix < 4; ++matrix) {
    std::memcpy(&fragment[matrix],
                static_cast<const char*>(warp[8 * matrix + lane / 4].row) + 4 * (lane % 4), 4);
  }
}

inline void mma_m16n8k16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                         BFloat16, SIMT_SITE) {
  simt::mma<BFloat16>(sum, a, b0, b1, site);
}

inline void mma_m16n8k16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Half,
                         SIMT_SITE) {
  simt::mma<Half>(sum, a, b0, b1, site);
}

}  // namespace hpvod
