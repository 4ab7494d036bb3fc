// What a collective needs of a network: rank, size, send, receive, wait with a deadline.
//
// Guarantees: messages between two ranks arrive in order; every wait ends by its deadline or when
// the transport is abandoned; once a message went wrong the transport is broken and every later
// collective says why. Refusals: no progress outside wait is promised; one collective at a time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/failure.hpp"
#include "base/reduce.hpp"
#include "comm/choice.hpp"
#include "comm/standing.hpp"
#include "comm/tag.hpp"
#include "comm/trace.hpp"

namespace mls {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;

// One message under way. The bytes belong to the caller and must stay until wait has returned.
struct Request {
  enum class Kind : std::uint8_t { none, send, receive, collective };
  Kind kind = Kind::none;
  int peer = -1;  // of a message
  int tag = 0;
  std::span<std::byte> bytes;
  bool shorter = false;       // a receive that less than all bytes may complete
  std::size_t arrived = 0;    // bytes, once a receive is complete
  std::uintptr_t handle = 0;  // the transport's own
};

// A message that has come and that nobody has received yet.
struct Arrival {
  int peer = -1;
  std::size_t bytes = 0;
};

class Board;

class Transport {
 public:
  Transport(int rank, int size)
      : rank_(rank), size_(size), nodes_(static_cast<std::size_t>(size), 0) {}
  virtual ~Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  virtual void send(Request& request, int peer, Tag tag, std::span<const std::byte> bytes) = 0;
  virtual void receive(Request& request, int peer, Tag tag, std::span<std::byte> bytes) = 0;

  // The network's own all-reduce over all ranks, in place; false where it cannot, on all ranks
  // alike, before anything is sent.
  virtual bool own_all_reduce(std::span<std::byte>, const Combine&, Deadline) { return false; }

  // Completes the request, which is then free for reuse. Throws Failure.
  virtual void wait(Request& request, Deadline deadline) = 0;

  // Completes the request if it need not be waited for; whether it did. Throws Failure.
  // Not all networks can be asked.
  virtual bool test(Request& request);

  // A message with this tag that has come from any rank, if there is one. The same.
  virtual std::optional<Arrival> probe(Tag tag);

  // Gives up a request that nobody will wait for, which breaks the transport.
  void cancel(Request& request) noexcept;

  // Makes every wait of this transport, on any thread, end with a Failure soon, and every later
  // collective fail. The first reason counts.
  void abandon(const std::string& why);

  // Whether the network may still use memory of a request that was given up: such memory must
  // never be freed.
  bool unsettled() const { return unsettled_; }

  // Opens a collective and returns its number, which is the same on all ranks when they call the
  // same collectives. `watch` is called now and then while waiting, and may throw.
  // Throws Failure when the transport is broken, abandoned or in use on another thread.
  std::uint32_t begin(const char* operation, const std::string& label, const Passed& passed,
                      Clock::time_point now, Deadline deadline, std::function<void()> watch);

  // Closes it. A failure that broke the transport is kept for later callers of begin.
  void end(const std::optional<Failure>& failure) noexcept;

  // Where the ranks of this node meet in shared memory, null where they cannot.
  Board* board() const { return board_.get(); }
  void attach(std::shared_ptr<Board> board) { board_ = std::move(board); }

  // The node of every rank, 0 for all unless placed; numbers are the same on all ranks.
  const std::vector<int>& nodes() const { return nodes_; }
  void place(std::vector<int> nodes) { nodes_ = std::move(nodes); }
  bool one_node() const;

  // What `auto` stands for; the same on all ranks.
  const Choices& choices() const { return choices_; }
  void choose(Choices choices) { choices_ = std::move(choices); }

  // For waits that no message ends: throws as a receive from this peer would.
  void keep_waiting_for(int peer, Deadline deadline);

  // Where this rank notes what it does; null for nowhere. Set it before the first collective.
  Trace* trace() const { return trace_.get(); }
  void note_in(std::shared_ptr<Trace> trace) { trace_ = std::move(trace); }

  // Where the running collective stands, for the reports of other threads.
  void at_step(std::size_t step, std::size_t steps);
  std::string progress() const;
  Standing standing() const;

 protected:
  // Called by a wait that goes on: throws at the deadline and when abandoned.
  void keep_waiting(const Request& request, Deadline deadline);

  // Notes how many bytes came; throws unless they are as many as were expected.
  void check_length(Request& request, std::size_t arrived);

  [[noreturn]] void fail(FailureKind kind, const Request& request, const std::string& why);

 private:
  // Whether the network will no longer use the request's memory.
  virtual bool take_back(Request& request) noexcept = 0;

  const int rank_;
  const int size_;
  std::shared_ptr<Board> board_;
  std::shared_ptr<Trace> trace_;
  std::vector<int> nodes_;
  Choices choices_;
  std::uint32_t sequence_ = 0;
  bool broken_ = false;
  std::atomic<bool> unsettled_{false};
  std::optional<Failure> failure_;
  std::function<void()> watch_;
  Clock::time_point next_watch_;
  std::atomic<bool> busy_{false};
  std::atomic<bool> abandoned_{false};
  mutable std::mutex mutex_;  // of what follows, and of abandoned_ becoming true
  std::string abandoned_why_;
  Standing standing_;  // without what the atomics hold
  std::atomic<int> peer_{-1};
  std::atomic<std::size_t> step_{0};
  std::atomic<std::size_t> steps_{0};
};

// Completes what need not be waited for and drops it from the list; whether there was any. Where
// one fails, the list keeps all that are still under way.
bool drop_completed(Transport& transport, std::vector<Request>& requests);

// Requests that are given up together unless they were waited for.
class Flights {
 public:
  Flights(Transport& transport, std::size_t count) : transport_(transport), requests_(count) {}
  ~Flights() {
    for (Request& request : requests_) transport_.cancel(request);
  }
  Flights(const Flights&) = delete;
  Flights& operator=(const Flights&) = delete;

  Request& operator[](std::size_t index) { return requests_[index]; }
  std::size_t size() const { return requests_.size(); }

 private:
  Transport& transport_;
  std::vector<Request> requests_;
};

// Memory for messages. It leaks on purpose where the network may still use it; declare it before
// the Flights that do.
class Scratch {
 public:
  Scratch(Transport& transport, std::size_t bytes)
      : transport_(transport), bytes_(new std::byte[bytes]), size_(bytes) {}
  ~Scratch() {
    if (transport_.unsettled()) static_cast<void>(bytes_.release());
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::span<std::byte> part(std::size_t start, std::size_t length) {
    return std::span(bytes_.get(), size_).subspan(start, length);
  }

  // All of it, as numbers.
  std::span<float> floats() {
    return {reinterpret_cast<float*>(bytes_.get()), size_ / sizeof(float)};
  }

 private:
  Transport& transport_;
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_;
};

}  // namespace mls
