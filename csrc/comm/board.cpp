#include "comm/board.hpp"

#include <sched.h>

#include <cstring>
#include <thread>
#include <utility>

namespace mls {
namespace {

using namespace std::chrono_literals;

constexpr int kPolls = 400;     // some microseconds that keep the core
constexpr auto kYield = 200us;  // then polls that give way to other threads
constexpr auto kNap = 30us;     // then sleeps between polls

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Board::Board(std::shared_ptr<Mapping> memory, Group mates, bool patient)
    : memory_(std::move(memory)), mates_(std::move(mates)), polls_(patient ? 0 : kPolls) {}

std::shared_ptr<Board> Board::make(Transport& transport, Group mates, bool patient,
                                   const Options& options) {
  std::shared_ptr<Mapping> memory = share_memory(transport, bytes_for(mates.size()), options);
  if (!memory) return nullptr;
  return std::make_shared<Board>(std::move(memory), std::move(mates), patient);
}

void Board::meet(Transport& transport, const Announcement& mine, std::span<const std::byte> small,
                 Deadline deadline) {
  ++number_;
  if (!small.empty()) {
    std::memcpy(at(seat()).slots[number_ % 2].data(), small.data(), small.size());
  }
  line(seat()).announcement = mine;
  line(seat()).number.store(number_, std::memory_order_release);
  for (int mate = 0; mate < size(); ++mate) {
    await(transport, mate, line(mate).number, number_, deadline);
  }
}

const std::byte* Board::small(int seat) const { return at(seat).slots[number_ % 2].data(); }

void Board::sync(Transport& transport, Deadline deadline) {
  ++syncs_;
  at(seat()).syncs.store(syncs_, std::memory_order_release);
  for (int mate = 0; mate < size(); ++mate) {
    await(transport, mate, at(mate).syncs, syncs_, deadline);
  }
}

std::byte* Board::piece(int seat, std::size_t slot, int owner) const {
  const auto ranks = static_cast<std::size_t>(size());
  std::byte* rooms = memory_->data() + ranks * sizeof(Seat);
  const std::size_t index = slot * (ranks + 1) + static_cast<std::size_t>(owner);
  return rooms + static_cast<std::size_t>(seat) * room_bytes(size()) + index * piece_bytes(size());
}

// Counters only grow, and a mate may be one ahead.
void Board::await(Transport& transport, int seat, const std::atomic<std::uint64_t>& counter,
                  std::uint64_t number, Deadline deadline) const {
  const auto arrived = [&] { return counter.load(std::memory_order_acquire) >= number; };
  for (int poll = 0; poll < polls_; ++poll) {
    if (arrived()) return;
    relax();
  }
  const Clock::time_point slow_since = Clock::now();
  while (!arrived()) {
    transport.keep_waiting_for(mates_.rank_of(seat), deadline);
    if (Clock::now() - slow_since < kYield) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
}

}  // namespace mls
