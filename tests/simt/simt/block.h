// One block: its threads, run in turn as fibers, and what they wait for.
//
// A thread runs until it waits at a barrier or for the lanes of its warp, or returns.
// When none can run and some have not returned, nothing but an error is left, and the
// state of every thread tells which one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "deadlock.h"
#include "report.h"
#include "shared.h"
#include "thread.h"

namespace simt {

class Block {
 public:
  // `body` calls the kernel.
  Block(const void* kernel, dim3 dimensions, size_t dynamic_bytes, std::function<void()> body)
      : kernel_(kernel),
        body_(std::move(body)),
        threads_(size_t{dimensions.x} * dimensions.y * dimensions.z),
        order_(run_order(threads_.size())),
        lane_order_(run_order(warpSize)),
        shared_(dynamic_bytes) {
    for (size_t i = 0; i < threads_.size(); ++i) {
      const auto linear = static_cast<unsigned>(i);
      threads_[i].index = {linear % dimensions.x, linear / dimensions.x % dimensions.y,
                           linear / dimensions.x / dimensions.y};
    }
  }

  // Runs the block at blockIdx; the report of what went wrong, or nothing.
  std::string run() {
    error_.clear();
    waiting_ = 0;
    live_ = threads_.size();
    shared_.begin_block();
    queue_.clear();
    for (Thread& thread : threads_) thread.state = State::kReady;
    for (unsigned i : order_) queue_.push_back(&threads_[i]);
    current_block = this;
    do {
      next_ = 0;
      while (next_ < queue_.size() && error_.empty()) resume(*queue_[next_++]);
      queue_.clear();
      if (error_.empty() && live_ > 0 && !release_active_masks()) {
        error_ = describe_deadlock(threads_, where());
      }
    } while (error_.empty() && live_ > 0);
    for (Thread& thread : threads_) {
      if (thread.fiber.stack != nullptr) thread.fiber.finish();
    }
    current_block = nullptr;
    shared_.end_block();
    return error_;
  }

  // The rest is called on the fiber of the running thread.

  // Waits for all threads of the block; how many of them gave a predicate that is not 0.
  int block_barrier(int predicate, Site site) {
    running_->barrier = site;
    running_->predicate = predicate != 0;
    running_->state = State::kBlockBarrier;
    if (++waiting_ == threads_.size() && all_wait_at(site)) release_barrier();
    switch_fiber(running_->fiber, scheduler_);
    return static_cast<int>(running_->result);
  }

  // Every lane of call.mask contributes call.value; each gets that of lane call.source, or,
  // if it is a vote, the mask of the lanes whose value is not 0.
  uint64_t warp_call(const WarpCall& call, bool vote) {
    const unsigned lane = running_lane();
    if ((call.mask >> lane & 1) == 0) {
      fail(std::string(call.name) + " at " + call.site.str() + ": the mask " + hex(call.mask) +
           " does not name lane " + std::to_string(lane) + ", which calls it");
    }
    running_->call = call;
    running_->state = State::kWarp;
    Thread* lanes = warp_of(*running_);
    const uint32_t mask = call.mask & existing_lanes(lanes);
    bool complete = true;
    for (unsigned i = 0; i < warpSize; ++i) {
      if ((mask >> i & 1) == 0) continue;
      complete = complete && lanes[i].state == State::kWarp && lanes[i].call.meets(call);
    }
    if (complete) release_warp(lanes, mask, vote);
    switch_fiber(running_->fiber, scheduler_);
    return running_->result;
  }

  // The lanes that call it from the same place before all of the warp wait or have returned.
  uint32_t active_mask(Site site) {
    running_->barrier = site;
    running_->state = State::kActiveMask;
    switch_fiber(running_->fiber, scheduler_);
    return static_cast<uint32_t>(running_->result);
  }

  [[noreturn]] void fail(const std::string& what) {
    error_ = "simt: " + what + "; " + where_running();
    switch_fiber(running_->fiber, scheduler_);
    std::abort();  // a thread that failed is never resumed
  }

  unsigned running_lane() const { return linear(*running_) % warpSize; }
  SharedMemory& shared() { return shared_; }
  std::string where() const {
    return "kernel " + kernel_name(kernel_) + ", block " + str(blockIdx);
  }
  std::string where_running() const { return where() + ", thread " + str(running_->index); }

  static inline Block* current_block = nullptr;  // while a kernel runs

 private:
  void become(Thread& thread) {
    running_ = &thread;
    threadIdx = thread.index;
    thread.state = State::kReady;
  }

  void resume(Thread& thread) {
    become(thread);
    if (thread.fiber.stack == nullptr) thread.fiber.start(&Block::thread_main);
    switch_fiber(scheduler_, thread.fiber);
    if (running_->state == State::kExited) running_->fiber.finish();
  }

  static void thread_main() {
    Block& block = *current_block;
    entered_fiber(block.scheduler_);
    do {
      block.body_();
      block.running_->state = State::kExited;
      --block.live_;
    } while (block.start_next_here());
    switch_fiber(block.running_->fiber, block.scheduler_, /*last=*/true);
    std::abort();
  }

  // If the next thread has not started, it takes over the fiber of the one that returned:
  // threads that never wait then need no switching at all.
  bool start_next_here() {
    if (next_ == queue_.size() || queue_[next_]->fiber.stack != nullptr) return false;
    Thread& thread = *queue_[next_++];
    std::swap(thread.fiber, running_->fiber);
    become(thread);
    return true;
  }

  void release(Thread& thread, uint64_t result) {
    thread.state = State::kReady;
    thread.result = result;
    queue_.push_back(&thread);
  }

  bool all_wait_at(Site site) const {
    return std::all_of(threads_.begin(), threads_.end(),
                       [&](const Thread& thread) { return thread.barrier == site; });
  }

  void release_barrier() {
    waiting_ = 0;
    uint64_t count = 0;
    for (const Thread& thread : threads_) count += thread.predicate;
    for (unsigned i : order_) release(threads_[i], count);
  }

  void release_warp(Thread* lanes, uint32_t mask, bool vote) {
    uint64_t values[warpSize];
    uint32_t votes = 0;
    for (unsigned i = 0; i < warpSize; ++i) {
      const bool takes_part = mask >> i & 1;
      // What a lane outside the mask holds is undefined: all ones are NaN or -1.
      values[i] = takes_part ? lanes[i].call.value : ~uint64_t{0};
      if (takes_part && values[i] != 0) votes |= 1u << i;
    }
    for (unsigned i : lane_order_) {
      if (mask >> i & 1) release(lanes[i], vote ? votes : values[lanes[i].call.source]);
    }
  }

  bool release_active_masks() {
    for (Thread& thread : threads_) {
      if (thread.state != State::kActiveMask) continue;
      Thread* lanes = warp_of(thread);
      uint32_t mask = 0;
      for (unsigned i = 0; i < warpSize; ++i) {
        if ((existing_lanes(lanes) >> i & 1) && lanes[i].state == State::kActiveMask &&
            lanes[i].barrier == thread.barrier) {
          mask |= 1u << i;
        }
      }
      for (unsigned i : lane_order_) {
        if (mask >> i & 1) release(lanes[i], mask);
      }
      return true;
    }
    return false;
  }

  unsigned linear(const Thread& thread) const {
    return static_cast<unsigned>(&thread - threads_.data());
  }
  Thread* warp_of(const Thread& thread) { return &threads_[linear(thread) / warpSize * warpSize]; }
  uint32_t existing_lanes(const Thread* lanes) const {
    const size_t count = threads_.size() - linear(*lanes);
    return count >= warpSize ? ~0u : (1u << count) - 1;
  }

  const void* kernel_;
  std::function<void()> body_;
  std::vector<Thread> threads_;
  std::vector<unsigned> order_;       // of the threads in the block
  std::vector<unsigned> lane_order_;  // of the lanes in a warp
  SharedMemory shared_;
  Fiber scheduler_;
  std::vector<Thread*> queue_;  // the threads that can run, in the order in which they will
  size_t next_ = 0;             // in queue_
  Thread* running_ = nullptr;
  size_t waiting_ = 0;  // threads at a barrier
  size_t live_ = 0;     // threads that have not returned
  std::string error_;
};

}  // namespace simt
