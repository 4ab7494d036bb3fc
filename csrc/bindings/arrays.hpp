// Python arrays as spans of bytes, with the reason when one cannot be used.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <span>
#include <string>

#include "comm/intent.hpp"
#include "comm/standing.hpp"

namespace mls {

struct ArrayView {
  pybind11::object owner;  // of the memory
  std::span<std::byte> bytes;
  int dtype = 0;  // DType; negative for what can only be copied
  Fault fault = Fault::none;
  Passed passed = {};
};

// A NumPy array, or any object with the buffer protocol. `dtype` overrides the array's own, for
// types that NumPy lacks; it must have the same size.
ArrayView view_of(const pybind11::object& object, const std::optional<std::string>& dtype);

}  // namespace mls
