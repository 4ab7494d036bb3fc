// Streams and events of the stand-in. Streams run at once; with MLS_STANDIN_LATE in the environment
// each is a thread that takes its time, as a GPU does, so that what nobody waits for is not there.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/failure.hpp"
#include "codec/random.hpp"
#include "cuda/device.hpp"

namespace mls::device {

using Work = std::function<void()>;

// One stream's thread.
class Worker {
 public:
  explicit Worker(std::uint64_t key) : key_(key), thread_([this] { work(); }) {}
  // Returns when all is done.
  ~Worker() {
    {
      const std::scoped_lock lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void add(Work work) {
    {
      const std::scoped_lock lock(mutex_);
      waiting_.push_back(std::move(work));
    }
    changed_.notify_all();
  }

  void finish() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_.empty() && !busy_; });
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (std::uint64_t turn = 0;; ++turn) {
      changed_.wait(lock, [this] { return closing_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      const Work next = std::move(waiting_.front());
      waiting_.pop_front();
      busy_ = true;
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(random_bits(key_, turn) % 300));
      next();
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  const std::uint64_t key_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> waiting_;
  bool busy_ = false;
  bool closing_ = false;
  std::thread thread_;
};

// How often an event was recorded, and how often a stream has come there. In memory that other
// processes see.
struct EventProgress {
  std::atomic<std::uint64_t> recorded{0};
  std::atomic<std::uint64_t> reached{0};
  std::atomic<std::int64_t> when{0};  // nanoseconds

  bool ready(std::uint64_t turn) const { return reached >= turn; }
  void reach(std::uint64_t turn) {
    when = std::chrono::steady_clock::now().time_since_epoch().count();
    std::uint64_t before = reached;
    while (before < turn && !reached.compare_exchange_weak(before, turn)) {
    }
  }
};

class SharedEvent {
 public:
  // A new file, or that of another process.
  explicit SharedEvent(std::string path, bool fresh) : path_(std::move(path)), fresh_(fresh) {
    const int file =
        ::open(path_.c_str(), O_RDWR | O_CLOEXEC | (fresh ? O_CREAT | O_EXCL : 0), 0600);
    if (file < 0 || (fresh && ::ftruncate(file, sizeof(EventProgress)) != 0)) {
      throw Failure(FailureKind::config, "the GPU: there is no such event");
    }
    memory_ = ::mmap(nullptr, sizeof(EventProgress), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    if (memory_ == MAP_FAILED) throw Failure(FailureKind::config, "the GPU: no event was made");
  }
  ~SharedEvent() {
    ::munmap(memory_, sizeof(EventProgress));
    if (fresh_) ::unlink(path_.c_str());
  }
  SharedEvent(const SharedEvent&) = delete;
  SharedEvent& operator=(const SharedEvent&) = delete;

  EventProgress& marks() { return *static_cast<EventProgress*>(memory_); }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
  const bool fresh_;
  void* memory_ = nullptr;
};

class Streams {
 public:
  Streams() : late_(std::getenv("MLS_STANDIN_LATE") != nullptr) {}

  bool late() const { return late_; }

  Stream make() {
    const std::scoped_lock lock(mutex_);
    streams_[++last_] = worker();
    return last_;
  }

  void drop(Stream stream) noexcept {
    std::shared_ptr<Worker> left;
    const std::scoped_lock lock(mutex_);
    const auto found = streams_.find(stream);
    if (found == streams_.end()) return;
    left = found->second;
    streams_.erase(found);
    dropped_.push_back(left);  // what it has to do is done
  }

  void run(Stream stream, Work work) {
    std::shared_ptr<Worker> worker;
    {
      const std::scoped_lock lock(mutex_);
      worker = of(stream);
    }
    if (worker) {
      worker->add(std::move(work));
    } else {
      work();
    }
  }

  void finish() {
    std::deque<std::shared_ptr<Worker>> all;
    {
      const std::scoped_lock lock(mutex_);
      all = dropped_;
      for (const auto& [_, worker] : streams_) all.push_back(worker);
      all.push_back(always_);
    }
    for (const auto& worker : all) {
      if (worker) worker->finish();
    }
  }

  Event make_event(bool shared) {
    const std::scoped_lock lock(mutex_);
    ++last_;
    if (shared) {
      const std::string path =
          "/dev/shm/mls-standin-" + std::to_string(::getpid()) + "-event-" + std::to_string(last_);
      keep(last_, std::make_shared<SharedEvent>(path, true));
    } else {
      events_[last_] = std::make_shared<EventProgress>();
    }
    return last_;
  }

  void drop_event(Event event) noexcept {
    const std::scoped_lock lock(mutex_);
    events_.erase(event);
    shared_.erase(event);
  }

  void record(Event event, Stream stream) {
    const std::shared_ptr<EventProgress> marks = marks_of(event);
    const std::uint64_t turn = ++marks->recorded;
    run(stream, [marks, turn] { marks->reach(turn); });
  }

  void follow(Stream stream, Event event) {
    const std::shared_ptr<EventProgress> marks = marks_of(event);
    const std::uint64_t turn = marks->recorded;
    run(stream, [marks, turn] {
      while (!marks->ready(turn)) std::this_thread::sleep_for(std::chrono::microseconds(20));
    });
  }

  bool ready(Event event) {
    const std::shared_ptr<EventProgress> marks = marks_of(event);
    return marks->ready(marks->recorded);
  }

  double when(Event event) { return static_cast<double>(marks_of(event)->when) * 1e-9; }

  std::string share_event(Event event) {
    const std::scoped_lock lock(mutex_);
    return shared_.at(event)->path();
  }

  Event see_event(const std::string& handle) {
    const std::scoped_lock lock(mutex_);
    keep(++last_, std::make_shared<SharedEvent>(handle, false));
    return last_;
  }

 private:
  static constexpr Stream kDefaults = 2;  // streams that every program has: one

  std::shared_ptr<Worker> worker() { return late_ ? std::make_shared<Worker>(last_) : nullptr; }

  std::shared_ptr<Worker> of(Stream stream) {
    if (stream <= kDefaults) {
      if (late_ && !always_) always_ = worker();
      return always_;
    }
    const auto found = streams_.find(stream);
    if (found == streams_.end()) {
      throw Failure(FailureKind::config, "the GPU: there is no such stream");
    }
    return found->second;
  }

  void keep(Event event, const std::shared_ptr<SharedEvent>& shared) {
    shared_[event] = shared;
    events_[event] = std::shared_ptr<EventProgress>(shared, &shared->marks());
  }

  std::shared_ptr<EventProgress> marks_of(Event event) {
    const std::scoped_lock lock(mutex_);
    return events_.at(event);
  }

  const bool late_;
  std::mutex mutex_;
  std::uintptr_t last_ = 100;
  std::shared_ptr<Worker> always_;
  std::map<Stream, std::shared_ptr<Worker>> streams_;
  std::deque<std::shared_ptr<Worker>> dropped_;
  std::map<Event, std::shared_ptr<EventProgress>> events_;
  std::map<Event, std::shared_ptr<SharedEvent>> shared_;
};

}  // namespace mls::device
