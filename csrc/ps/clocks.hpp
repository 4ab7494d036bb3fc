// Who has pushed how many steps of a table, and who may see it. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "ps/table.hpp"

namespace mls {

class Clocks {
 public:
  Clocks(int workers, Consistency consistency, std::uint32_t staleness)
      : done_(static_cast<std::size_t>(workers), 0),
        consistency_(consistency),
        staleness_(staleness) {}

  enum class Turn : std::uint8_t { next, repeated, early };

  // What a push of this number is: steps are pushed one after the other.
  Turn turn(int worker, std::uint64_t step) const {
    const std::uint64_t done = done_[index(worker)];
    if (step == done) return Turn::next;
    return step < done ? Turn::repeated : Turn::early;
  }

  void pushed(int worker) { ++done_[index(worker)]; }

  // Nobody waits for a worker that has left.
  void left(int worker) { done_[index(worker)] = kLeft; }
  bool has_left(int worker) const { return done_[index(worker)] == kLeft; }

  // Starts anew, as if all that have not left had pushed so many steps.
  void reset(std::uint64_t steps) {
    for (std::uint64_t& done : done_) {
      if (done != kLeft) done = steps;
    }
    applied_ = steps;
  }

  // bsp: steps of which all pushes are applied.
  std::uint64_t applied() const { return applied_; }
  void apply() { ++applied_; }

  // Steps that every worker has pushed.
  std::uint64_t slowest() const { return std::ranges::min(done_); }

  // Whether a worker that has pushed `steps` may see the table now.
  bool may_pull(std::uint64_t steps) const {
    switch (consistency_) {
      case Consistency::bsp:
        return applied_ >= steps;
      case Consistency::ssp:
        return behind(steps) <= staleness_;
      default:
        return true;
    }
  }

  // How many steps the slowest worker is behind one that has pushed `steps`.
  std::uint64_t behind(std::uint64_t steps) const {
    const std::uint64_t least = slowest();
    return steps > least ? steps - least : 0;
  }

  // Workers that have pushed fewer than `steps`.
  std::vector<int> behind_of(std::uint64_t steps) const {
    std::vector<int> found;
    for (std::size_t i = 0; i < done_.size(); ++i) {
      if (done_[i] < steps) found.push_back(static_cast<int>(i));
    }
    return found;
  }

 private:
  static constexpr std::uint64_t kLeft = std::numeric_limits<std::uint64_t>::max();
  static std::size_t index(int worker) { return static_cast<std::size_t>(worker); }

  std::vector<std::uint64_t> done_;
  const Consistency consistency_;
  const std::uint32_t staleness_;
  std::uint64_t applied_ = 0;
};

}  // namespace mls
