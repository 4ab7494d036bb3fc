// A machine runs kernels in order: this one here and now, for tests. codecs.hpp says what is asked
// of a machine; gpu.cu has the one of CUDA.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

#include "cuda/team.hpp"

namespace mls::device {

class HostMachine {
 public:
  // Memory that lasts until all that was started so far is done.
  template <class T>
  class Room {
   public:
    explicit Room(std::size_t count) : memory_(new T[count]) {
      std::memset(memory_.get(), kGarbage, count * sizeof(T));
    }
    T* get() const { return memory_.get(); }

   private:
    std::unique_ptr<T[]> memory_;
  };

  template <class T>
  Room<T> room(std::size_t count) {
    return Room<T>(count);
  }

  template <class Kernel>
  void run(std::size_t work, const Kernel& kernel) {
    run_all(std::clamp<std::size_t>(work, 1, kMost), kernel);
  }

  template <class Kernel>
  void run_few(std::size_t work, const Kernel& kernel) {
    run(work, kernel);
  }

  template <class Kernel>
  void run_all(std::size_t teams, const Kernel& kernel) {
    const bool upwards = ++runs_ % 2 == 0;
    for (std::size_t i = 0; i < teams; ++i) {
      HostTeam<Kernel::kThreads> team({upwards ? i : teams - 1 - i, teams});
      typename Kernel::Shared shared;
      std::memset(&shared, kGarbage, sizeof shared);
      kernel(team, shared);
    }
  }

  void zero(void* memory, std::size_t bytes) {
    if (bytes > 0) std::memset(memory, 0, bytes);
  }
  void copy(void* into, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(into, from, bytes);
  }

 private:
  static constexpr std::size_t kMost = 3;

  std::size_t runs_ = 0;
};

}  // namespace mls::device
