// What the threads of a rank did when, for one picture of all ranks (docs/timeline.md).
//
// Guarantees: an event costs one look at a flag while the trace is off, and a short lock while it
// is on; memory is bounded: the first events are kept, those beyond the limit are counted.
// Refusals: nothing is written to a disk here, and clocks of other ranks are not known here.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

namespace mls {

class Trace {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Event {
    std::int64_t start_ns;  // of the steady clock
    std::int64_t duration_ns;
    std::uint64_t bytes;   // that it is about, 0 where it is about none
    std::uint32_t number;  // of the collective, the step or the round; 0 for none
    std::uint32_t name;    // its place in Records::names
    std::uint32_t track;   // its place in Records::tracks
  };

  struct Records {
    std::vector<Event> events;  // in the order in which they ended
    std::vector<std::string> names;
    std::vector<std::string> tracks;  // kQueue, then a track for each thread
    std::size_t dropped;              // beyond the limit
  };

  // The track of what waits for a thread; its events overlap, those of a thread are nested.
  static constexpr std::uint32_t kQueue = 0;

  // The calling thread is the one called "main".
  Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // Forgets the events so far and takes up to `limit` new ones.
  void start(std::size_t limit);
  void stop();
  bool on() const { return on_.load(std::memory_order_relaxed); }

  // Gives the calling thread a track of this name.
  void name_thread(std::string name);

  // What the calling thread did, or what waited for it.
  void add(std::string_view name, Time start, Time end, std::uint32_t number, std::uint64_t bytes);
  void add_queued(std::string_view name, Time start, Time end);

  Records records() const;

 private:
  void keep(std::string_view name, Event event);
  std::uint32_t place_of(const std::string& name);
  std::uint32_t own_track();

  std::atomic<bool> on_{false};
  mutable std::mutex mutex_;
  std::size_t limit_ = 0;
  Records records_{};
  std::unordered_map<std::string, std::uint32_t> places_;  // of names
  std::vector<std::thread::id> threads_;                   // of each track
};

// From its making to its end an event of the thread that made it. Free where there is no trace,
// nearly so where it is off.
class Span {
 public:
  Span(Trace* trace, std::string_view name, std::uint32_t number = 0, std::uint64_t bytes = 0,
       std::string_view label = {});
  ~Span();
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  Trace* const trace_;  // null where nothing is to be noted
  const std::uint32_t number_;
  const std::uint64_t bytes_;
  std::string name_;
  Trace::Time start_;
};

}  // namespace mls
