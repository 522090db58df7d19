// Fibers: stacks that one OS thread switches between. A CUDA thread is a fiber, so that
// it can wait at a barrier in the middle of a device function. Switching costs a few
// nanoseconds; swapcontext, which asks the kernel for the signal mask, costs a hundred times that.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace simt {

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 512 * 1024;  // redzones make frames larger
#else
constexpr size_t kStackBytes = 128 * 1024;
#endif

// Stacks are never unmapped: a thread that finishes hands its own, still warm in the
// cache, to the next thread that starts.
class StackPool {
 public:
  char* take() {
    if (free_.empty()) return map();
    char* stack = free_.back();
    free_.pop_back();
    return stack;
  }
  void give(char* stack) {
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(stack, kStackBytes);  // frames that were left for good
#endif
    free_.push_back(stack);
  }

 private:
  static char* map() {
    constexpr size_t kGuard = 4096;  // turns an overflow into a fault at once
    void* base = mmap(nullptr, kStackBytes + kGuard, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED || mprotect(base, kGuard, PROT_NONE) != 0) {
      std::perror("simt: no memory for a thread's stack");
      std::abort();
    }
    return static_cast<char*>(base) + kGuard;
  }

  std::vector<char*> free_;
};

inline StackPool stack_pool;

#ifdef __x86_64__
using Context = void*;  // the stack pointer; all else that a call preserves lies on the stack

__attribute__((naked, noinline)) inline void switch_context(Context* /*from*/, Context /*to*/) {
  asm("pushq %rbp\n\t"
      "pushq %rbx\n\t"
      "pushq %r12\n\t"
      "pushq %r13\n\t"
      "pushq %r14\n\t"
      "pushq %r15\n\t"
      "movq %rsp, (%rdi)\n\t"
      "movq %rsi, %rsp\n\t"
      "popq %r15\n\t"
      "popq %r14\n\t"
      "popq %r13\n\t"
      "popq %r12\n\t"
      "popq %rbx\n\t"
      "popq %rbp\n\t"
      "ret");
}

inline Context new_context(char* stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + kStackBytes);
  *--top = nullptr;  // where entry's return address would be; it also aligns the stack
  *--top = reinterpret_cast<void*>(entry);
  for (int saved_register = 0; saved_register < 6; ++saved_register) *--top = nullptr;
  return top;
}
#else
using Context = ucontext_t*;

inline void switch_context(Context* from, Context to) {
  ucontext_t here;
  *from = &here;
  swapcontext(&here, to);
}

inline Context new_context(char* stack, void (*entry)()) {
  // The context lies at the stack's low end, far from the frames that grow down to it.
  auto* context = reinterpret_cast<ucontext_t*>(stack);
  getcontext(context);
  context->uc_stack.ss_sp = stack + sizeof(ucontext_t);
  context->uc_stack.ss_size = kStackBytes - sizeof(ucontext_t);
  makecontext(context, entry, 0);
  return context;
}
#endif

// One suspended or running flow of control. The scheduler's own has no stack of ours.
struct Fiber {
  Context context = nullptr;
  char* stack = nullptr;
  void* fake_stack = nullptr;         // AddressSanitizer's own bookkeeping
  const void* asan_bottom = nullptr;  // of the stack, as AddressSanitizer knows it
  size_t asan_size = 0;

  void start(void (*entry)()) {
    stack = stack_pool.take();
    context = new_context(stack, entry);
    fake_stack = nullptr;
    asan_bottom = stack;
    asan_size = kStackBytes;
  }
  void finish() {
    stack_pool.give(stack);
    stack = nullptr;
  }
};

// `last` says that `from` never runs again.
inline void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool last = false) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.asan_bottom, to.asan_size);
#endif
  switch_context(&from.context, to.context);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// The first thing that a new fiber does: learn where the scheduler's stack lies.
inline void entered_fiber([[maybe_unused]] Fiber& scheduler) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.asan_bottom, &scheduler.asan_size);
#endif
}

}  // namespace simt
