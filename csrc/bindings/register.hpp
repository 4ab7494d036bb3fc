// The parts of the extension module, and what their functions share.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <optional>
#include <string>

#include "base/failure.hpp"

namespace mls {

void register_failures();
void register_transports(pybind11::module_& m);
void register_collectives(pybind11::module_& m);
void register_engine(pybind11::module_& m);
void register_trace(pybind11::module_& m);
void register_codecs(pybind11::module_& m);
void register_compressor(pybind11::module_& m);
void register_ps(pybind11::module_& m);

// A time in seconds, at most ten years, as clocks count nanoseconds in 64 bits.
inline std::chrono::duration<double> duration_of(double timeout_s) {
  if (!(timeout_s >= 0)) {
    throw Failure(FailureKind::config,
                  "timeout_s must be a number of seconds, not " + std::to_string(timeout_s));
  }
  return std::min<std::chrono::duration<double>>(std::chrono::duration<double>(timeout_s),
                                                 std::chrono::years(10));
}

// Lets Python raise KeyboardInterrupt and the like. Needs Python's lock.
inline void check_signals() {
  if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
}

}  // namespace mls
