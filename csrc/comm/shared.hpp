// Reducing and spreading arrays inside one node, through memory that its ranks share.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/reduce.hpp"
#include "comm/board.hpp"
#include "comm/topology.hpp"
#include "comm/transport.hpp"
#include "comm/window.hpp"

namespace mls {

// The arrays of the mates of a board, after they have met over them. They are reached where they
// lie, if all lie in one window, or else pass through the board's rooms.
class NodeArrays {
 public:
  // Finds out what all announced; `data` is this rank's array.
  NodeArrays(Board& board, Transport& transport, std::span<std::byte> data, const Place& place,
             Deadline deadline);

  // Whether nothing is copied on the way.
  bool direct() const { return !blocks_.empty(); }

  // Every array gets the combination of all. Returns when all ranks are done.
  void all_reduce(const Combine& how);

  // Part i (bytes, cut at elements) of the array of mate i gets the combination of all; the rest is
  // undefined. Others may still read the array: it must be followed by spread or finish, and only
  // the own part may be written before.
  void reduce(std::span<const Part> parts, const Combine& how);
  void finish();

  // Every array gets part i from that of mate i. Returns when all ranks are done.
  void spread(std::span<const Part> parts);

 private:
  void sync() { board_.sync(transport_, deadline_); }
  void push(const Combine& how);
  template <bool reduces, bool spreads>
  void pass(std::span<const Part> parts, const Combine& how);

  Board& board_;
  Transport& transport_;
  const std::span<std::byte> data_;
  const Deadline deadline_;
  std::shared_ptr<Window> window_;
  std::vector<std::byte*> blocks_;
};

// Small arrays: every rank has laid its own beside its announcement, and combines those of all.
void reduce_small(const Board& board, std::span<std::byte> data, const Combine& how);

}  // namespace mls
