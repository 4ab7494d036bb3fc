// A function with a stack of its own, that runs until it pauses: a thousand ranks in one thread.
//
// Fibers do not nest, and one must have ended before it is destroyed.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>

namespace sim {

class Fiber {
 public:
  explicit Fiber(std::function<void()> body);  // must not throw
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs the body until it pauses or ends.
  void resume();
  bool ended() const { return ended_; }

  // By the body: returns when it is resumed.
  void pause();

 private:
  static void enter(unsigned high, unsigned low);

  std::function<void()> body_;
  std::byte* const stack_;
  ucontext_t own_;
  ucontext_t resumer_;
  bool ended_ = false;
};

}  // namespace sim
