// One background thread that runs collectives in the order in which they were submitted.
//
// Guarantees: operations run one after the other; the first failure ends the engine, and every
// later wait reports it; close() ends within its time. Refusals: no reordering, no cancellation of
// single operations.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/failure.hpp"
#include "comm/transport.hpp"

namespace mls {

class Engine {
 public:
  // The transport must belong to this engine alone and outlive it.
  explicit Engine(Transport& transport);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Returns the operation's ticket, 1 for the first. The name is for the reports of waits.
  std::uint64_t submit(std::string name, std::function<void(Transport&)> operation);

  // Whether the operation is complete after at most this time; throws the engine's failure.
  bool wait_for(std::uint64_t ticket, std::chrono::duration<double> time);

  // Throws the Failure of a wait that has lasted this long.
  [[noreturn]] void give_up(std::uint64_t ticket, std::chrono::duration<double> waited) const;

  // Whether wait_for would return or throw at once.
  bool done(std::uint64_t ticket) const;

  // Number of operations that are complete: the tickets up to this one.
  std::uint64_t completed() const;

  // Lets submitted operations finish for as long as the timeout, then gives them up.
  void close(std::chrono::duration<double> timeout);

 private:
  struct Task {
    std::string name;
    std::function<void(Transport&)> operation;
    Clock::time_point submitted;
  };

  void work();

  Transport& transport_;
  mutable std::mutex mutex_;
  std::condition_variable submitted_;
  std::condition_variable progressed_;
  std::deque<Task> tasks_;
  std::string running_;
  std::uint64_t last_ticket_ = 0;
  std::uint64_t completed_ = 0;
  std::optional<Failure> failure_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace mls
