#include "bindings/arrays.hpp"

#include <array>
#include <utility>

#include "base/dtype.hpp"

namespace py = pybind11;

namespace mls {
namespace {

std::optional<DType> known_dtype(const py::dtype& type, const std::optional<std::string>& forced) {
  const auto size = static_cast<std::size_t>(type.itemsize());
  std::string name;
  if (forced) {
    name = *forced;
  } else if (type.kind() == 'V') {  // the types of ml_dtypes
    name = py::str(type.attr("name"));
  } else {
    constexpr std::array<std::pair<char, const char*>, 3> kinds{
        {{'f', "float"}, {'i', "int"}, {'u', "uint"}}};
    for (const auto& [kind, word] : kinds) {
      if (kind == type.kind()) name = word + std::to_string(8 * size);
    }
  }
  const std::optional<DType> named = dtype_named(name);
  return named && size_of(*named) == size ? named : std::nullopt;
}

// NumPy writes the native order as '=', and '|' where there is none.
bool has_native_order(const py::dtype& type) {
  return type.byteorder() == '=' || type.byteorder() == '|';
}

// NPY_ITEM_HASOBJECT: elements that are pointers to Python objects.
bool holds_objects(const py::dtype& type) { return (type.flags() & 1) != 0; }

std::optional<py::array> as_array(const py::object& object) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  if (!PyObject_CheckBuffer(object.ptr())) return std::nullopt;
  return py::array(py::module_::import("numpy").attr("asarray")(py::memoryview(object)));
}

Passed passed_as(const py::array& array, int dtype) {
  Passed passed{.dtype = dtype, .axes = static_cast<int>(array.ndim())};
  for (std::size_t axis = 0; axis < passed.shape.size(); ++axis) {
    if (static_cast<py::ssize_t>(axis) == array.ndim()) break;
    passed.shape[axis] = static_cast<std::uint64_t>(array.shape()[axis]);
  }
  return passed;
}

}  // namespace

ArrayView view_of(const py::object& object, const std::optional<std::string>& dtype) {
  const std::optional<py::array> array = as_array(object);
  if (!array) return {.owner = object, .bytes = {}, .dtype = -1, .fault = Fault::not_an_array};
  ArrayView view{.owner = *array, .bytes = {}};
  const py::dtype type = array->dtype();
  const std::optional<DType> known = known_dtype(type, dtype);
  view.dtype = known ? static_cast<int>(*known)
                     : -1 - ((type.kind() << 16) | static_cast<int>(type.itemsize() & 0xffff));
  view.passed = passed_as(*array, view.dtype);
  if (!(array->flags() & py::array::c_style)) {
    view.fault = Fault::not_contiguous;
  } else if (!has_native_order(type)) {
    view.fault = Fault::foreign_byte_order;
  } else if (holds_objects(type)) {  // pointers mean nothing to another process
    view.fault = Fault::unsupported_dtype;
  } else {
    if (!array->writeable()) view.fault = Fault::read_only;
    auto* data = static_cast<std::byte*>(const_cast<void*>(array->data()));
    view.bytes = {data, static_cast<std::size_t>(array->nbytes())};
  }
  return view;
}

}  // namespace mls
