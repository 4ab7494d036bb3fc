// NumPy arrays as spans of bytes, with the reason when one cannot be used.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <span>
#include <string>

#include "base/dtype.hpp"
#include "comm/agree.hpp"

namespace mls {

struct ArrayView {
  std::span<std::byte> bytes;
  int dtype = 0;  // DType, or -1 - (kind, item size) for what is only copied
  Fault fault = Fault::none;
};

// name: overrides the array's own dtype, for types that NumPy lacks.
inline ArrayView view_of(const pybind11::array& array, const std::optional<std::string>& name) {
  ArrayView view;
  const pybind11::dtype type = array.dtype();
  std::optional<DType> known;
  const auto bits = std::to_string(8 * type.itemsize());
  switch (type.kind()) {
    case 'f':
      known = dtype_named("float" + bits);
      break;
    case 'i':
      known = dtype_named("int" + bits);
      break;
    case 'u':
      known = dtype_named("uint" + bits);
      break;
    case 'V':  // ml_dtypes
      known = dtype_named(pybind11::str(type.attr("name")).cast<std::string>());
      break;
    default:
      break;
  }
  if (name) {
    const std::optional<DType> forced = dtype_named(*name);
    known = forced && size_of(*forced) == static_cast<std::size_t>(type.itemsize())
                ? forced
                : std::nullopt;
  }
  view.dtype = known ? static_cast<int>(*known) : -1 - type.kind() * 256 - int(type.itemsize());
  const int flags = array.flags();
  if (!(flags & pybind11::array::c_style)) {
    view.fault = Fault::not_contiguous;
  } else if (!array.writeable()) {
    view.fault = Fault::read_only;
  } else if (!(flags & pybind11::detail::npy_api::NPY_ARRAY_ALIGNED_) || type.byteorder() == '>') {
    view.fault = Fault::misaligned;
  } else {
    auto* data = static_cast<std::byte*>(const_cast<void*>(array.data()));
    view.bytes = {data, static_cast<std::size_t>(array.nbytes())};
  }
  return view;
}

}  // namespace mls
