// The least that a test program needs: CHECK, TEST, and ranks as threads.
#pragma once

#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/failure.hpp"
#include "comm/threads.hpp"

#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) {                                                               \
      throw std::logic_error(std::string(__FILE__) + ":" + std::to_string(__LINE__) + \
                             ": " #condition);                                        \
    }                                                                                 \
  } while (false)

#define TEST(name)                                              \
  static void name();                                           \
  static const bool registered_##name = test::add(#name, name); \
  static void name()

namespace test {

struct Case {
  const char* name;
  void (*body)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline bool add(const char* name, void (*body)()) {
  cases().push_back({name, body});
  return true;
}

// Runs body(transport) on a thread per rank; returns the Failure of each rank, and throws what
// else went wrong on any of them.
inline std::vector<std::optional<mls::Failure>> on_ranks(
    int size, const std::function<void(mls::Transport&)>& body) {
  const auto world = std::make_shared<mls::ThreadWorld>(size);
  const auto count = static_cast<std::size_t>(size);
  std::vector<std::optional<mls::Failure>> failures(count);
  std::vector<std::exception_ptr> errors(count);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < count; ++rank) {
    threads.emplace_back([&, rank] {
      const auto transport = world->transport(static_cast<int>(rank));
      try {
        body(*transport);
      } catch (const mls::Failure& failure) {
        failures[rank] = failure;
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return failures;
}

// What a Failure says; empty where there is none.
template <class Body>
std::string failure_of(Body body) {
  try {
    body();
  } catch (const mls::Failure& failure) {
    return failure.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace test
