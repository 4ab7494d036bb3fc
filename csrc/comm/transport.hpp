// What a collective needs of a network: rank, size, send, receive, wait with a deadline.
//
// Guarantees: messages between two ranks arrive in order; every wait ends by its deadline or when
// the transport is abandoned. Refusals: no progress outside wait is promised; a transport belongs
// to one thread at a time; after a Failure it must not be used again (messages may be under way).
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "comm/tag.hpp"

namespace mls {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;

// One message under way. The bytes belong to the caller and must stay until wait has returned.
struct Request {
  enum class Kind : std::uint8_t { none, send, receive };
  Kind kind = Kind::none;
  int peer = -1;
  int tag = 0;
  std::span<std::byte> bytes;
  std::uintptr_t handle = 0;  // the transport's own
};

class Transport {
 public:
  Transport(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  virtual void send(Request& request, int peer, Tag tag, std::span<const std::byte> bytes) = 0;
  virtual void receive(Request& request, int peer, Tag tag, std::span<std::byte> bytes) = 0;

  // Completes the request, which is then free for reuse. Throws Failure.
  virtual void wait(Request& request, Deadline deadline) = 0;

  // Takes back a request that will not be waited for, as far as the network allows.
  virtual void cancel(Request& request) noexcept = 0;

  // Makes every wait of this transport, on any thread, end with a Failure soon.
  void abandon() { abandoned_.store(true, std::memory_order_relaxed); }
  bool abandoned() const { return abandoned_.load(std::memory_order_relaxed); }

  // Number of the next collective; the same on all ranks when they call the same collectives.
  std::uint32_t next_sequence() { return ++sequence_; }

 private:
  int rank_;
  int size_;
  std::uint32_t sequence_ = 0;
  std::atomic<bool> abandoned_{false};
};

}  // namespace mls
