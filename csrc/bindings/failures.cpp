// Failures as Python errors, the same in every extension.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "base/failure.hpp"
#include "bindings/register.hpp"

namespace py = pybind11;

namespace mls {
namespace {

py::object error_of(const Failure& failure) {
  const py::module_ errors = py::module_::import("mpimlsys.errors");
  switch (failure.kind()) {
    case FailureKind::timeout:
      return errors.attr("Timeout")(failure.what());
    case FailureKind::rank_failed:
      return errors.attr("RankFailed")(failure.what(), failure.ranks());
    case FailureKind::corrupt:
      return errors.attr("CorruptData")(failure.what());
    case FailureKind::config:
      break;
  }
  return errors.attr("ConfigError")(failure.what());
}

}  // namespace

void register_failures() {
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const Failure& failure) {
      const py::object error = error_of(failure);
      if (failure.on_all_ranks()) error.attr("on_all_ranks") = true;
      PyErr_SetObject(py::type::of(error).ptr(), error.ptr());
    }
  });
}

}  // namespace mls
