// What a transport does, or did last: for the reports of other threads and other ranks.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace mls {

// The array that the caller passed. Only the first axes of its shape are kept.
struct Passed {
  int dtype = -1;  // DType, negative for others
  int axes = -1;   // -1: no array
  std::array<std::uint64_t, 4> shape = {};
};

struct Standing {
  const char* operation = "";
  std::string label = {};
  Passed passed = {};
  std::uint32_t number = 0;  // of the collective; 0 before the first
  bool running = false;
  std::chrono::steady_clock::time_point started = {};
  std::chrono::steady_clock::time_point ended = {};  // of the one that does not run any more
  std::chrono::steady_clock::time_point deadline = {};
  std::size_t step = 0;
  std::size_t steps = 0;                    // 0 where they are not counted
  int peer = -1;                            // whom it waits for
  std::optional<std::string> failure = {};  // why the transport is broken
};

}  // namespace mls
