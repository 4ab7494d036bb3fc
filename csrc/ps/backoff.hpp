// How a loop that polls gives way when nothing happens: it spins for some microseconds, then lets
// other threads run, then sleeps, longer the longer nothing has happened.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>

#include "base/nap.hpp"
#include "comm/transport.hpp"

namespace mls {

class Backoff {
 public:
  // What to do after so long without work; zero is to poll again, negative to give way.
  static constexpr std::chrono::microseconds pause(Clock::duration idle) {
    using namespace std::chrono_literals;
    if (idle < 20us) return 0us;
    if (idle < 500us) return -1us;
    return std::clamp(std::chrono::duration_cast<std::chrono::microseconds>(idle / 32), 30us,
                      1000us);
  }

  void busy() { idle_since_ = {}; }

  void idle() {
    const Clock::time_point now = Clock::now();
    if (idle_since_ == Clock::time_point{}) idle_since_ = now;
    const std::chrono::microseconds time = pause(now - idle_since_);
    if (time.count() < 0) {
      sched_yield();
    } else if (time.count() > 0) {
      nap(time);
    }
  }

 private:
  Clock::time_point idle_since_;
};

}  // namespace mls
