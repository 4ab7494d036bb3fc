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

Board::Board(std::shared_ptr<Mapping> memory, int rank, int size, bool patient)
    : memory_(std::move(memory)), rank_(rank), size_(size), polls_(patient ? 0 : kPolls) {}

std::shared_ptr<Board> Board::make(Transport& transport, bool patient, const Options& options) {
  std::shared_ptr<Mapping> memory = share_memory(transport, bytes_for(transport.size()), options);
  if (!memory) return nullptr;
  return std::make_shared<Board>(std::move(memory), transport.rank(), transport.size(), patient);
}

void Board::meet(Transport& transport, const Announcement& mine, std::span<const std::byte> small,
                 Deadline deadline) {
  ++number_;
  if (!small.empty()) {
    std::memcpy(seat(rank_).slots[number_ % 2].data(), small.data(), small.size());
  }
  line(rank_).announcement = mine;
  line(rank_).number.store(number_, std::memory_order_release);
  for (int peer = 0; peer < size(); ++peer) await(transport, peer, line(peer).number, deadline);
}

const std::byte* Board::small(int rank) const { return seat(rank).slots[number_ % 2].data(); }

void Board::part(Transport& transport, Deadline deadline) {
  seat(rank_).parted.store(number_, std::memory_order_release);
  for (int peer = 0; peer < size(); ++peer) await(transport, peer, seat(peer).parted, deadline);
}

// Counters only grow, and a peer may already be one meeting ahead on the line of `parted`.
void Board::await(Transport& transport, int peer, const std::atomic<std::uint64_t>& word,
                  Deadline deadline) const {
  const auto arrived = [&] { return word.load(std::memory_order_acquire) >= number_; };
  for (int poll = 0; poll < polls_; ++poll) {
    if (arrived()) return;
    relax();
  }
  const Clock::time_point slow_since = Clock::now();
  while (!arrived()) {
    transport.keep_waiting_for(peer, deadline);
    if (Clock::now() - slow_since < kYield) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
}

}  // namespace mls
