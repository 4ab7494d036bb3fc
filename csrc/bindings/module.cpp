// The extension module: what it was built with, instruction sets.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "base/isa.hpp"
#include "bindings/register.hpp"
#include "comm/mpi.hpp"

namespace py = pybind11;

namespace mls {
namespace {

std::vector<std::string> py_isa_levels() {
  const std::vector<std::string_view> names = isa_levels();
  return {names.begin(), names.end()};
}

void py_set_isa(const std::string& name) {
  if (!set_isa(name)) {
    throw Failure(FailureKind::config, "this machine has no instruction set '" + name + "'");
  }
}

py::dict build_info() {
  const MpiBuild build = mpi_build();
  py::dict info;
  info["version"] = MLS_VERSION;
  info["flavour"] = build.flavour;
  info["library"] = build.library;
  info["handle_size"] = build.handle_size;
  info["compiler"] = __VERSION__;
  info["cxx_standard"] = __cplusplus;
  info["isa_levels"] = py_isa_levels();
  return info;
}

}  // namespace

}  // namespace mls

PYBIND11_MODULE(MLS_MODULE, m) {
  m.doc() = "Collective operations over MPI and over threads; see mpimlsys.native.";
  mls::register_failures();
  mls::register_trace(m);
  mls::register_transports(m);
  mls::register_codecs(m);
  mls::register_compressor(m);
  mls::register_ps(m);
  mls::register_collectives(m);
  mls::register_engine(m);
  m.def("build_info", &mls::build_info);
  m.def("isa_levels", &mls::py_isa_levels);
  m.def("isa", [] { return std::string(mls::isa()); });
  m.def("set_isa", &mls::py_set_isa, pybind11::arg("name"));
}
