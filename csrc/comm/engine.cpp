#include "comm/engine.hpp"

#include <sstream>
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
    tasks_.push_back({std::move(name), std::move(operation), Clock::now()});
    ticket = ++last_ticket_;
  }
  submitted_.notify_one();
  return ticket;
}

bool Engine::wait_for(std::uint64_t ticket, std::chrono::duration<double> time) {
  std::unique_lock lock(mutex_);
  if (ticket > last_ticket_) throw Failure(FailureKind::config, "no such ticket");
  progressed_.wait_for(lock, time, [&] { return completed_ >= ticket || failure_; });
  if (completed_ >= ticket) return true;
  if (failure_) throw *failure_;
  return false;
}

void Engine::give_up(std::uint64_t ticket, std::chrono::duration<double> waited) const {
  const std::lock_guard lock(mutex_);
  std::ostringstream text;
  text.precision(3);
  text << "operation " << ticket << " is not complete after a wait of " << waited.count()
       << " s: rank " << transport_.rank() << " is in operation " << completed_ + 1 << ", "
       << running_ << transport_.progress();
  throw Failure(FailureKind::timeout, text.str());
}

bool Engine::done(std::uint64_t ticket) const {
  const std::lock_guard lock(mutex_);
  return completed_ >= ticket || failure_;
}

std::uint64_t Engine::completed() const {
  const std::lock_guard lock(mutex_);
  return completed_;
}

void Engine::close(std::chrono::duration<double> timeout) {
  {
    std::unique_lock lock(mutex_);
    progressed_.wait_for(lock, timeout, [&] { return completed_ == last_ticket_ || failure_; });
    closing_ = true;
  }
  transport_.abandon("given up, as the program ends");
  submitted_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Engine::work() {
  Trace* const trace = transport_.trace();
  if (trace != nullptr) trace->name_thread("exchange");
  std::unique_lock lock(mutex_);
  while (!failure_) {
    submitted_.wait(lock, [&] { return closing_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    const Task task = std::move(tasks_.front());
    tasks_.pop_front();
    running_ = task.name;
    lock.unlock();
    if (trace != nullptr) trace->add_queued(task.name, task.submitted, Clock::now());
    std::optional<Failure> failure;
    try {
      task.operation(transport_);
    } catch (const Failure& thrown) {
      failure = thrown;
    } catch (const std::exception& thrown) {  // such as std::bad_alloc; must not leave the thread
      failure =
          Failure(FailureKind::rank_failed, task.name + ": " + thrown.what(), {transport_.rank()});
    }
    lock.lock();
    if (failure) {
      failure_ = std::move(failure);
    } else {
      ++completed_;
    }
    progressed_.notify_all();
  }
}

}  // namespace mls
