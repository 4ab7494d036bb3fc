// Each function views arrays as spans, releases Python's lock (no Python object is touched without
// it, and arrays are kept alive by the caller's frame), and calls one function of csrc/comm.
#include <pybind11/stl.h>

#include "bindings/register.hpp"

namespace py = pybind11;

namespace mls {
namespace {

using DTypeName = std::optional<std::string>;

// While the calling thread waits, Ctrl-C is heard.
void watch_signals() {
  const py::gil_scoped_acquire locked;
  check_signals();
}

// Runs a collective without Python's lock. Where MPI may still use the memory of an array
// afterwards, the array lives for ever.
template <class Body>
void run(const Transport& transport, const ArrayView& view, Body body) {
  const bool unsettled_before = transport.unsettled();
  try {
    const py::gil_scoped_release unlocked;
    body();
  } catch (...) {
    if (transport.unsettled() && !unsettled_before) view.owner.inc_ref();
    throw;
  }
}

void py_all_reduce(Transport& transport, const py::object& array, const std::string& op,
                   const DTypeName& dtype, const std::string& label, double timeout_s,
                   std::size_t segment_bytes, bool check) {
  const ArrayView view = view_of(array, dtype);
  Options options = options_of(label, timeout_s, segment_bytes, check, view.fault);
  options.watch = watch_signals;
  const AllReduce request = all_reduce_request(view, op, options);
  run(transport, view, [&] { all_reduce(transport, view.bytes, request); });
}

void py_broadcast(Transport& transport, const py::object& array, int root, const DTypeName& dtype,
                  const std::string& label, double timeout_s, std::size_t segment_bytes,
                  bool check) {
  const ArrayView view = view_of(array, dtype);
  Options options = options_of(label, timeout_s, segment_bytes, check, view.fault);
  options.watch = watch_signals;
  run(transport, view, [&] { broadcast(transport, view.bytes, root, view.dtype, options); });
}

void py_all_gather(Transport& transport, const py::object& mine, const py::object& whole,
                   const std::string& label, double timeout_s, std::size_t segment_bytes,
                   bool check) {
  const ArrayView from = view_of(mine, std::nullopt);
  const ArrayView into = view_of(whole, std::nullopt);
  const bool readable = from.fault == Fault::none || from.fault == Fault::read_only;
  Options options =
      options_of(label, timeout_s, segment_bytes, check, readable ? into.fault : from.fault);
  options.watch = watch_signals;
  run(transport, into, [&] { all_gather(transport, from.bytes, into.bytes, from.dtype, options); });
}

void py_barrier(Transport& transport, const std::string& label, double timeout_s) {
  Options options{.label = label, .timeout = duration_of(timeout_s)};
  options.watch = watch_signals;
  run(transport, {}, [&] { barrier(transport, options); });
}

}  // namespace

Options options_of(const std::string& label, double timeout_s, std::size_t segment_bytes,
                   bool check, Fault fault) {
  return {.label = label,
          .timeout = duration_of(timeout_s),
          .segment_bytes = segment_bytes,
          .check = check,
          .fault = fault};
}

AllReduce all_reduce_request(const ArrayView& view, const std::string& op, Options options) {
  AllReduce request{.options = std::move(options)};
  Fault& fault = request.options.fault;
  if (view.dtype >= 0) {
    request.dtype = static_cast<DType>(view.dtype);
  } else if (fault == Fault::none) {
    fault = Fault::unsupported_dtype;
  }
  if (op == "min") {
    request.op = ReduceOp::min;
  } else if (op == "max") {
    request.op = ReduceOp::max;
  } else if (op == "average") {
    request.average = true;
  } else if (op != "sum") {
    fault = Fault::unknown_operation;
  }
  return request;
}

void register_collectives(py::module_& m) {
  m.def("all_reduce", &py_all_reduce, py::arg("transport"), py::arg("array"), py::arg("op") = "sum",
        py::kw_only(), py::arg("dtype") = py::none(), py::arg("label") = "",
        py::arg("timeout_s") = 300.0, py::arg("segment_bytes") = kDefaultSegmentBytes,
        py::arg("check") = true);
  m.def("broadcast", &py_broadcast, py::arg("transport"), py::arg("array"), py::arg("root"),
        py::kw_only(), py::arg("dtype") = py::none(), py::arg("label") = "",
        py::arg("timeout_s") = 300.0, py::arg("segment_bytes") = kDefaultSegmentBytes,
        py::arg("check") = true);
  m.def("all_gather", &py_all_gather, py::arg("transport"), py::arg("mine"), py::arg("whole"),
        py::kw_only(), py::arg("label") = "", py::arg("timeout_s") = 300.0,
        py::arg("segment_bytes") = kDefaultSegmentBytes, py::arg("check") = true);
  m.def("barrier", &py_barrier, py::arg("transport"), py::kw_only(), py::arg("label") = "",
        py::arg("timeout_s") = 300.0);
}

}  // namespace mls
