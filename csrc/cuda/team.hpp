// Teams: how kernels are written once and run on a GPU and, for tests, on the host.
//
// A kernel is a function object: operator()(Team&, Shared&). Its threads meet after every
// `all(body)`, which runs body(thread) for each of them; what a thread keeps from one `all` to the
// next is an Each<T>, what the team shares is the kernel's Shared. Between two meetings the order
// of threads is free, and so is that of teams: the host runs them in changing orders, so that a
// kernel that relies on one fails its tests.
//
// A kernel says how many threads a team has: 32, which is a warp, or 256.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/one.hpp"

namespace mls::device {

// A team's place among those of a launch.
struct Seat {
  std::size_t number;
  std::size_t teams;
};

// What memory holds before it is written.
inline constexpr int kGarbage = 0xa5;

template <int kSize>
class HostTeam {
 public:
  static constexpr int kThreads = kSize;

  template <class T>
  class Each {
   public:
    Each() { __builtin_memset(values_.data(), kGarbage, sizeof values_); }
    T& operator[](int thread) { return values_[static_cast<std::size_t>(thread)]; }

   private:
    std::array<T, kSize> values_;
  };

  explicit HostTeam(Seat seat) : seat_(seat) {}

  std::size_t number() const { return seat_.number; }
  std::size_t teams() const { return seat_.teams; }

  template <class Body>
  void all(Body body) {
    const int step = ++turn_ % 2 == 0 ? 1 : kSize - 1;  // upwards, or downwards from 0
    for (int i = 0, thread = 0; i < kSize; ++i, thread = (thread + step) % kSize) body(thread);
  }

  // The largest of all threads' numbers.
  std::uint32_t largest(Each<std::uint32_t>& x) {
    std::uint32_t most = 0;
    for (int thread = 0; thread < kSize; ++thread) most = std::max(most, x[thread]);
    return most;
  }

  // Their sum; each becomes the sum of those of lower threads.
  std::uint32_t exclusive_sum(Each<std::uint32_t>& x) {
    std::uint32_t sum = 0;
    for (int thread = 0; thread < kSize; ++thread) {
      const std::uint32_t own = x[thread];
      x[thread] = sum;
      sum += own;
    }
    return sum;
  }

  std::uint32_t xor_sum(Each<std::uint32_t>& x) {
    std::uint32_t bits = 0;
    for (int thread = 0; thread < kSize; ++thread) bits ^= x[thread];
    return bits;
  }

  // Bit t is set where thread t's number is not 0; of a team of 32.
  std::uint32_t votes(Each<std::uint32_t>& x) {
    static_assert(kSize == 32);
    std::uint32_t bits = 0;
    for (int thread = 0; thread < kSize; ++thread) bits |= (x[thread] != 0 ? 1u : 0u) << thread;
    return bits;
  }

  // Another thread's number, within `all` and by all threads; of a team of 32.
  float of(Each<float>& x, int other) {
    static_assert(kSize == 32);
    return x[other];
  }

  // On memory that teams share; what add returns was there before. Four bytes each, aligned.
  static std::uint32_t add(std::uint32_t* into, std::uint32_t value) {
    const std::uint32_t before = *into;
    *into = before + value;
    return before;
  }
  static void put_bits(std::byte* into, std::uint32_t bits) {
    std::uint32_t word;
    __builtin_memcpy(&word, into, sizeof word);
    word |= bits;
    __builtin_memcpy(into, &word, sizeof word);
  }
  static void flip_bits(std::uint32_t* into, std::uint32_t bits) { *into ^= bits; }

 private:
  Seat seat_;
  int turn_ = 0;
};

}  // namespace mls::device
