#include "fiber.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

namespace sim {
namespace {

constexpr std::size_t kGuardBytes = 64 * 1024;  // a multiple of every page size
constexpr std::size_t kStackBytes = 128 * 1024;

void check(bool good, const char* what) {
  if (!good) throw std::system_error(errno, std::generic_category(), what);
}

// Below the stack are pages that must not be touched.
std::byte* make_stack() {
  void* const memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  check(memory != MAP_FAILED, "memory for the stack of a rank");
  std::byte* const stack = static_cast<std::byte*>(memory) + kGuardBytes;
  check(mprotect(stack, kStackBytes, PROT_READ | PROT_WRITE) == 0, "the stack of a rank");
  return stack;
}

}  // namespace

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)), stack_(make_stack()) {
  check(getcontext(&own_) == 0, "getcontext");
  own_.uc_stack.ss_sp = stack_;
  own_.uc_stack.ss_size = kStackBytes;
  own_.uc_link = &resumer_;
  const auto self = reinterpret_cast<std::uintptr_t>(this);  // makecontext passes on integers only
  makecontext(&own_, reinterpret_cast<void (*)()>(&Fiber::enter), 2,
              static_cast<unsigned>(std::uint64_t{self} >> 32), static_cast<unsigned>(self));
}

Fiber::~Fiber() { munmap(stack_ - kGuardBytes, kGuardBytes + kStackBytes); }

void Fiber::enter(unsigned high, unsigned low) {
  const auto self = static_cast<std::uintptr_t>(std::uint64_t{high} << 32 | low);
  Fiber* const fiber = reinterpret_cast<Fiber*>(self);
  fiber->body_();
  fiber->ended_ = true;
}

void Fiber::resume() { swapcontext(&resumer_, &own_); }

void Fiber::pause() { swapcontext(&own_, &resumer_); }

}  // namespace sim
