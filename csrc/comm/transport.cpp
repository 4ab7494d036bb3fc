#include "comm/transport.hpp"

#include <time.h>

#include <algorithm>
#include <utility>

namespace mls {
namespace {

constexpr auto kWatchEvery = std::chrono::milliseconds(50);

// Some milliseconds behind Clock::now(), and four times as fast.
Clock::time_point about_now() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return Clock::time_point(std::chrono::seconds(now.tv_sec) +
                           std::chrono::nanoseconds(now.tv_nsec));
}

}  // namespace

bool Transport::test(Request&) {
  throw Failure(FailureKind::config, "this network cannot be asked without waiting");
}

std::optional<Arrival> Transport::probe(Tag) {
  throw Failure(FailureKind::config, "this network cannot be asked what has come");
}

bool drop_completed(Transport& transport, std::vector<Request>& requests) {
  for (Request& request : requests) transport.test(request);
  return std::erase_if(requests, [](const Request& request) {
           return request.kind == Request::Kind::none;
         }) > 0;
}

void Transport::cancel(Request& request) noexcept {
  if (request.kind == Request::Kind::none) return;
  broken_ = true;
  if (!take_back(request)) unsettled_ = true;
  request.kind = Request::Kind::none;
}

void Transport::abandon(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (abandoned_.load(std::memory_order_relaxed)) return;
  abandoned_why_ = why;
  abandoned_.store(true, std::memory_order_release);
}

std::uint32_t Transport::begin(const char* operation, const std::string& label,
                               const Passed& passed, Clock::time_point now, Deadline deadline,
                               std::function<void()> watch) {
  if (busy_.exchange(true, std::memory_order_acquire)) {
    throw Failure(FailureKind::config, "this transport is in use on another thread");
  }
  const bool abandoned = abandoned_.load(std::memory_order_acquire);
  if (broken_ || abandoned) {
    busy_.store(false, std::memory_order_release);
    if (failure_) throw failure_->during("this transport is broken since");
    if (abandoned) {
      throw Failure(FailureKind::timeout, std::string(operation) + ": " + abandoned_why_);
    }
    throw Failure(FailureKind::timeout, "this transport is broken since an interruption");
  }
  watch_ = std::move(watch);
  next_watch_ = now + kWatchEvery;
  ++sequence_;
  const std::lock_guard lock(mutex_);
  standing_.operation = operation;
  standing_.label = label;
  standing_.passed = passed;
  standing_.number = sequence_;
  standing_.running = true;
  standing_.started = now;
  standing_.deadline = deadline;
  return sequence_;
}

void Transport::end(const std::optional<Failure>& failure) noexcept {
  if (broken_ && failure) failure_ = failure;
  watch_ = nullptr;
  at_step(0, 0);
  peer_.store(-1, std::memory_order_relaxed);
  {
    const std::lock_guard lock(mutex_);
    standing_.running = false;
    standing_.ended = about_now();
    if (broken_) standing_.failure = failure_ ? failure_->what() : "an interruption";
  }
  busy_.store(false, std::memory_order_release);
}

void Transport::at_step(std::size_t step, std::size_t steps) {
  step_.store(step, std::memory_order_relaxed);
  steps_.store(steps, std::memory_order_relaxed);
}

std::string Transport::progress() const {
  std::string text;
  const std::size_t steps = steps_.load(std::memory_order_relaxed);
  if (steps > 0) {
    const std::size_t step = step_.load(std::memory_order_relaxed);
    text += ", step " + std::to_string(step) + " of " + std::to_string(steps);
  }
  const int peer = peer_.load(std::memory_order_relaxed);
  if (peer >= 0) text += ", waiting for rank " + std::to_string(peer);
  return text;
}

Standing Transport::standing() const {
  Standing found;
  {
    const std::lock_guard lock(mutex_);
    found = standing_;
  }
  found.step = step_.load(std::memory_order_relaxed);
  found.steps = steps_.load(std::memory_order_relaxed);
  found.peer = peer_.load(std::memory_order_relaxed);
  return found;
}

void Transport::keep_waiting(const Request& request, Deadline deadline) {
  peer_.store(request.peer, std::memory_order_relaxed);
  const Clock::time_point now = Clock::now();
  if (abandoned_.load(std::memory_order_acquire)) {
    fail(FailureKind::timeout, request, abandoned_why_);
  }
  if (now >= deadline) fail(FailureKind::timeout, request, "no answer");
  if (watch_ && now >= next_watch_) {
    next_watch_ = now + kWatchEvery;
    watch_();
  }
}

void Transport::keep_waiting_for(int peer, Deadline deadline) {
  keep_waiting({.kind = Request::Kind::receive, .peer = peer, .bytes = {}}, deadline);
}

bool Transport::one_node() const {
  return std::ranges::all_of(nodes_, [&](int node) { return node == nodes_.front(); });
}

void Transport::check_length(Request& request, std::size_t arrived) {
  request.arrived = arrived;
  if (request.shorter ? arrived > request.bytes.size() : arrived != request.bytes.size()) {
    fail(FailureKind::config, request,
         std::to_string(arrived) + " bytes came where " + std::to_string(request.bytes.size()) +
             " were expected; the ranks called different operations");
  }
}

void Transport::fail(FailureKind kind, const Request& request, const std::string& why) {
  broken_ = true;
  if (request.kind == Request::Kind::collective) throw Failure(kind, "in the MPI's own: " + why);
  const bool sends = request.kind == Request::Kind::send;
  std::vector<int> ranks;
  if (kind != FailureKind::config) ranks.push_back(request.peer);
  throw Failure(
      kind,
      (sends ? "send to rank " : "receive from rank ") + std::to_string(request.peer) + ": " + why,
      std::move(ranks));
}

}  // namespace mls
