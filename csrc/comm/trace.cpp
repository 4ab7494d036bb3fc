#include "comm/trace.hpp"

#include <algorithm>
#include <utility>

namespace mls {
namespace {

// Labels are the caller's and could be new ones every time; further names share the first place.
constexpr std::size_t kMostNames = 10'000;
constexpr std::uint32_t kFurther = 0;

std::int64_t ns_of(Trace::Time time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

}  // namespace

Trace::Trace() : threads_(1) {
  records_.tracks.emplace_back("queue");
  name_thread("main");
}

void Trace::start(std::size_t limit) {
  const std::lock_guard lock(mutex_);
  limit_ = limit;
  records_.events.clear();
  records_.events.reserve(limit);  // pages that stay unused take no memory
  records_.names.assign(1, "(a further name)");
  records_.dropped = 0;
  places_.clear();
  on_.store(true, std::memory_order_relaxed);
}

void Trace::stop() { on_.store(false, std::memory_order_relaxed); }

void Trace::name_thread(std::string name) {
  const std::lock_guard lock(mutex_);
  // the number of a thread that has ended may come again
  std::ranges::replace(threads_, std::this_thread::get_id(), std::thread::id());
  threads_.push_back(std::this_thread::get_id());
  records_.tracks.push_back(std::move(name));
}

void Trace::add(std::string_view name, Time start, Time end, std::uint32_t number,
                std::uint64_t bytes) {
  if (!on()) return;
  const std::lock_guard lock(mutex_);
  keep(name, {.start_ns = ns_of(start),
              .duration_ns = ns_of(end) - ns_of(start),
              .bytes = bytes,
              .number = number,
              .name = 0,
              .track = own_track()});
}

void Trace::add_queued(std::string_view name, Time start, Time end) {
  if (!on()) return;
  const std::lock_guard lock(mutex_);
  keep(name, {.start_ns = ns_of(start),
              .duration_ns = ns_of(end) - ns_of(start),
              .bytes = 0,
              .number = 0,
              .name = 0,
              .track = kQueue});
}

Trace::Records Trace::records() const {
  const std::lock_guard lock(mutex_);
  return records_;
}

void Trace::keep(std::string_view name, Event event) {
  if (records_.events.size() >= limit_) {
    ++records_.dropped;
    return;
  }
  event.name = place_of(std::string(name));
  records_.events.push_back(event);
}

std::uint32_t Trace::place_of(const std::string& name) {
  const auto found = places_.find(name);
  if (found != places_.end()) return found->second;
  if (records_.names.size() == kMostNames) return kFurther;
  const auto place = static_cast<std::uint32_t>(records_.names.size());
  records_.names.push_back(name);
  places_.emplace(name, place);
  return place;
}

std::uint32_t Trace::own_track() {
  const auto found = std::ranges::find(threads_, std::this_thread::get_id());
  const auto track = static_cast<std::uint32_t>(found - threads_.begin());
  if (found == threads_.end()) {
    threads_.push_back(std::this_thread::get_id());
    records_.tracks.push_back("thread " + std::to_string(track));
  }
  return track;
}

Span::Span(Trace* trace, std::string_view name, std::uint32_t number, std::uint64_t bytes,
           std::string_view label)
    : trace_(trace != nullptr && trace->on() ? trace : nullptr), number_(number), bytes_(bytes) {
  if (trace_ == nullptr) return;
  name_ = name;
  if (!label.empty()) name_.append(" of ").append(label);
  start_ = std::chrono::steady_clock::now();
}

Span::~Span() {
  if (trace_ != nullptr) {
    trace_->add(name_, start_, std::chrono::steady_clock::now(), number_, bytes_);
  }
}

}  // namespace mls
