#include "comm/engine.hpp"

#include <utility>

namespace mls {

Engine::Engine(Transport& transport) : transport_(transport), thread_([this] { work(); }) {}

Engine::~Engine() { close(std::chrono::duration<double>(0)); }

std::uint64_t Engine::submit(std::string name, std::function<void(Transport&)> operation) {
  std::uint64_t ticket = 0;
  {
    const std::lock_guard lock(mutex_);
    if (failure_) throw *failure_;
    if (closing_) throw Failure(FailureKind::config, "this engine is closed");
    tasks_.push_back({std::move(name), std::move(operation)});
    ticket = ++last_ticket_;
  }
  submitted_.notify_one();
  return ticket;
}

void Engine::wait(std::uint64_t ticket, std::chrono::duration<double> timeout) {
  std::unique_lock lock(mutex_);
  if (ticket > last_ticket_) throw Failure(FailureKind::config, "no such ticket");
  const bool ended = completed_.wait_for(lock, timeout, [&] {
    return finished_ >= ticket || failure_.has_value();
  });
  if (finished_ >= ticket) return;
  if (failure_) throw *failure_;
  if (!ended) {
    throw Failure(FailureKind::timeout, "not complete after " + std::to_string(timeout.count()) +
                                            " s; the background thread is in " + running_);
  }
}

bool Engine::done(std::uint64_t ticket) const {
  const std::lock_guard lock(mutex_);
  return finished_ >= ticket || failure_.has_value();
}

void Engine::close(std::chrono::duration<double> timeout) {
  {
    std::unique_lock lock(mutex_);
    completed_.wait_for(lock, timeout,
                        [&] { return finished_ == last_ticket_ || failure_.has_value(); });
    closing_ = true;
  }
  transport_.abandon();
  submitted_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Engine::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    submitted_.wait(lock, [&] { return closing_ || !tasks_.empty(); });
    if (tasks_.empty() || failure_) return;
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    running_ = task.name;
    lock.unlock();
    std::optional<Failure> failure;
    try {
      task.operation(transport_);
    } catch (const Failure& thrown) {
      failure = thrown;
    } catch (const std::exception& thrown) {  // such as std::bad_alloc; must not leave the thread
      failure = Failure(FailureKind::config, task.name + ": " + thrown.what());
    }
    lock.lock();
    if (failure) {
      failure_ = std::move(failure);
    } else {
      ++finished_;
    }
    completed_.notify_all();
    if (failure_) return;
  }
}

}  // namespace mls
