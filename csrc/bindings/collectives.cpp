// Operations that run now: without Python's lock, as no Python object is touched and arrays are
// kept alive by the caller's frame.
#include <pybind11/stl.h>

#include "bindings/operations.hpp"
#include "bindings/ps.hpp"
#include "bindings/register.hpp"

namespace py = pybind11;

namespace mls {
namespace {

// While the calling thread waits, Ctrl-C is heard.
void watch_signals() {
  const py::gil_scoped_acquire locked;
  check_signals();
}

// Where MPI may still use the memory of arrays afterwards, they live for ever.
py::object run(Transport& transport, const Prepared& prepared) {
  const bool unsettled_before = transport.unsettled();
  try {
    const py::gil_scoped_release unlocked;
    prepared.body(transport, watch_signals);
  } catch (...) {
    if (transport.unsettled() && !unsettled_before) {
      for (const py::object& owner : prepared.owners) owner.inc_ref();
    }
    throw;
  }
  if (!prepared.parts) return py::none();
  return py::cast(prepared.parts);
}

// The bytes as an array that keeps the parts alive.
py::array_t<std::uint8_t> bytes_of(const std::shared_ptr<Parts>& parts) {
  auto* data = reinterpret_cast<std::uint8_t*>(parts->bytes.data());
  return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(parts->bytes.size()), data,
                                   py::cast(parts));
}

}  // namespace

void register_collectives(py::module_& m) {
  py::class_<Parts, std::shared_ptr<Parts>>(m, "Parts")
      .def_readonly("lengths", &Parts::lengths)
      .def_property_readonly("data", &bytes_of);
  define_operations<Transport>(m, &run);
  define_requests<Transport>(m, &run);
}

}  // namespace mls
