// Where the ranks of one machine meet: a seat for each in memory that all of them share.
//
// At its n-th meeting a rank announces what it is about to do, with a small array if it likes,
// and sees what all others announced. Meetings of odd and even number use different lines, so
// that a rank that is ahead never overwrites what another still reads: to announce meeting n + 2 it
// must have seen all at n + 1, who are then done with n.
//
// A line is one cache line: seeing that a peer has come brings along what it announced.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "comm/agree.hpp"
#include "comm/mapping.hpp"
#include "comm/transport.hpp"

namespace mls {

constexpr std::size_t kSlotBytes = 8 * 1024;

// What a rank is about to do, and where its array is.
struct Announcement {
  Intent intent;
  std::uint32_t sequence = 0;
  std::uint32_t window = 0;  // 0 for private memory
  std::uint64_t offset = 0;  // in the window's block
};

class Board {
 public:
  // Memory for `size` seats; zeroed.
  static constexpr std::size_t bytes_for(int size) {
    return static_cast<std::size_t>(size) * sizeof(Seat);
  }

  // `patient` ranks give way at once while they wait, as there are fewer cores than ranks.
  Board(std::shared_ptr<Mapping> memory, int rank, int size, bool patient);

  // For a transport whose ranks are all on one machine; null on all where they share no memory.
  // Collective.
  static std::shared_ptr<Board> make(Transport& transport, bool patient, const Options& options);

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Announces, and returns when all have. The array of at most kSlotBytes is copied for the others.
  void meet(Transport& transport, const Announcement& mine, std::span<const std::byte> small,
            Deadline deadline);

  // What rank r announced at the last meeting, and its small array; valid until the next but one.
  const Announcement& announced(int rank) const { return line(rank).announcement; }
  const std::byte* small(int rank) const;

  // Returns when all have called it since the last meeting.
  void part(Transport& transport, Deadline deadline);

 private:
  struct alignas(64) Line {
    std::atomic<std::uint64_t> number;
    Announcement announcement;
  };
  static_assert(sizeof(Line) == 64);
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

  struct alignas(64) Seat {
    std::array<Line, 2> lines;
    alignas(64) std::atomic<std::uint64_t> parted;
    alignas(64) std::array<std::array<std::byte, kSlotBytes>, 2> slots;
  };

  Seat& seat(int rank) const { return reinterpret_cast<Seat*>(memory_->data())[rank]; }
  Line& line(int rank) const { return seat(rank).lines[number_ % 2]; }
  void await(Transport& transport, int peer, const std::atomic<std::uint64_t>& word,
             Deadline deadline) const;

  const std::shared_ptr<Mapping> memory_;
  const int rank_;
  const int size_;
  const int polls_;
  std::uint64_t number_ = 0;
};

}  // namespace mls
