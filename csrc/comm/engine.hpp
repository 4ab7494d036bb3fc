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
#include <memory>
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

  // Returns the operation's ticket, 1 for the first.
  std::uint64_t submit(std::string name, std::function<void(Transport&)> operation);

  // Returns when the operation is complete; throws its Failure, or the first one of the engine.
  void wait(std::uint64_t ticket, std::chrono::duration<double> timeout);
  bool done(std::uint64_t ticket) const;

  // Lets submitted operations finish for as long as the timeout, then gives them up.
  void close(std::chrono::duration<double> timeout);

 private:
  struct Task {
    std::string name;
    std::function<void(Transport&)> operation;
  };

  void work();

  Transport& transport_;
  mutable std::mutex mutex_;
  std::condition_variable submitted_;
  std::condition_variable completed_;
  std::deque<Task> tasks_;
  std::string running_;
  std::uint64_t last_ticket_ = 0;
  std::uint64_t finished_ = 0;
  std::optional<Failure> failure_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace mls
