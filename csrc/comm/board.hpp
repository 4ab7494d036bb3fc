// Where the ranks of one node meet: a seat for each in memory that all of them share.
//
// At its n-th meeting a rank announces what it is about to do, with a small array if it likes,
// and sees what all others announced. Meetings of odd and even number use different lines, so
// that a rank that is ahead never overwrites what another still reads: to announce meeting n + 2 it
// must have seen all at n + 1, who are then done with n.
//
// A line is one cache line: seeing that a peer has come brings along what it announced. Behind the
// seats is room for each rank through which arrays of private memory pass, see shared.cpp.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "comm/intent.hpp"
#include "comm/mapping.hpp"
#include "comm/topology.hpp"
#include "comm/transport.hpp"

namespace mls {

constexpr std::size_t kSlotBytes = 8 * 1024;

// What a rank is about to do, and where its array is.
struct Announcement {
  Intent intent;
  std::uint32_t sequence = 0;
  std::uint32_t window = 0;  // its memory's number, 0 for private memory
  std::uint64_t offset = 0;  // in that memory
};

// What passes through the room of a rank at a time: a piece for each other rank and a result,
// twice, so that one is filled while the other is read.
constexpr std::size_t piece_bytes(int size) {
  constexpr std::size_t kInCache = 512 * 1024;
  return std::clamp<std::size_t>(kInCache / static_cast<std::size_t>(size) / 64 * 64, 8 * 1024,
                                 256 * 1024);
}
constexpr std::size_t room_bytes(int size) {
  return 2 * (static_cast<std::size_t>(size) + 1) * piece_bytes(size);
}

class Board {
 public:
  // Memory for `size` seats and their rooms; zeroed.
  static constexpr std::size_t bytes_for(int size) {
    return static_cast<std::size_t>(size) * (sizeof(Seat) + room_bytes(size));
  }

  // mates: the ranks of the transport that have a seat, in order. `patient` ranks give way at once
  // while they wait, as there are fewer cores than ranks.
  Board(std::shared_ptr<Mapping> memory, Group mates, bool patient);

  // For a transport whose ranks are all on one node, and are `mates` of the transport that will
  // have the board; null on all where they share no memory. Collective.
  static std::shared_ptr<Board> make(Transport& transport, Group mates, bool patient,
                                     const Options& options);

  // Among the mates, in order.
  int seat() const { return mates_.index; }
  int size() const { return mates_.size(); }

  // Announces, and returns when all have. The array of at most kSlotBytes is copied for the others.
  void meet(Transport& transport, const Announcement& mine, std::span<const std::byte> small,
            Deadline deadline);

  // What a mate announced at the last meeting, and its small array; valid until the next but one.
  const Announcement& announced(int seat) const { return line(seat).announcement; }
  const std::byte* small(int seat) const;

  // Returns when all mates have called it as often.
  void sync(Transport& transport, Deadline deadline);

  // What `owner` reads of the pieces of a mate, and the results of a mate; slot 0 or 1.
  std::byte* piece(int seat, std::size_t slot, int owner) const;
  std::byte* result(int seat, std::size_t slot) const { return piece(seat, slot, size()); }

 private:
  struct alignas(64) Line {
    std::atomic<std::uint64_t> number;
    Announcement announcement;
  };
  static_assert(sizeof(Line) == 64);
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

  struct alignas(64) Seat {
    std::array<Line, 2> lines;
    alignas(64) std::atomic<std::uint64_t> syncs;
    alignas(64) std::array<std::array<std::byte, kSlotBytes>, 2> slots;
  };

  Seat& at(int seat) const { return reinterpret_cast<Seat*>(memory_->data())[seat]; }
  Line& line(int seat) const { return at(seat).lines[number_ % 2]; }
  // Returns when the mate's counter has come this far.
  void await(Transport& transport, int seat, const std::atomic<std::uint64_t>& counter,
             std::uint64_t number, Deadline deadline) const;

  const std::shared_ptr<Mapping> memory_;
  const Group mates_;
  const int polls_;
  std::uint64_t number_ = 0;
  std::uint64_t syncs_ = 0;
};

}  // namespace mls
