// A sleep of some microseconds that does not take twice as long: Linux adds 50 microseconds to
// every sleep of a thread unless told that it matters (PR_SET_TIMERSLACK).
#pragma once

#include <sys/prctl.h>

#include <chrono>
#include <thread>

namespace mls {

inline void nap(std::chrono::microseconds time) {
  const int slack = prctl(PR_GET_TIMERSLACK);
  if (slack > 1) prctl(PR_SET_TIMERSLACK, 1ul);
  std::this_thread::sleep_for(time);
  if (slack > 1) prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(slack));
}

}  // namespace mls
