// The trace of a rank as NumPy arrays; times are those of time.perf_counter, which is the steady
// clock.
#include "comm/trace.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>

#include "bindings/register.hpp"
#include "comm/clocks.hpp"

namespace py = pybind11;

namespace mls {
namespace {

Trace::Time time_of(double seconds) {
  return Trace::Time(
      std::chrono::duration_cast<Trace::Time::duration>(std::chrono::duration<double>(seconds)));
}

template <class Row>
py::array_t<Row> array_of(const std::vector<Row>& rows) {
  return py::array_t<Row>(static_cast<py::ssize_t>(rows.size()), rows.data());
}

py::tuple py_records(const Trace& trace) {
  const Trace::Records records = trace.records();
  return py::make_tuple(array_of(records.events), records.names, records.tracks, records.dropped);
}

py::array_t<Echo> py_exchange_clocks(Transport& transport, int turns, double timeout_s) {
  std::vector<Echo> echoes;
  {
    const py::gil_scoped_release unlocked;
    echoes = exchange_clocks(transport, turns, {.timeout = duration_of(timeout_s)});
  }
  return array_of(echoes);
}

}  // namespace

void register_trace(py::module_& m) {
  PYBIND11_NUMPY_DTYPE(Trace::Event, start_ns, duration_ns, bytes, number, name, track);
  PYBIND11_NUMPY_DTYPE(Echo, sent, answered, received);
  py::class_<Trace, std::shared_ptr<Trace>>(m, "Trace")
      .def(py::init<>())
      .def_property_readonly("on", &Trace::on)
      .def("start", &Trace::start, py::arg("limit"))
      .def("stop", &Trace::stop)
      .def("name_thread", &Trace::name_thread, py::arg("name"))
      .def(
          "add",
          [](Trace& trace, std::string_view name, double start_s, double end_s,
             std::uint32_t number) {
            trace.add(name, time_of(start_s), time_of(end_s), number, 0);
          },
          py::arg("name"), py::arg("start_s"), py::arg("end_s"), py::arg("number") = 0)
      .def("records", &py_records);
  m.def("note_in", &Transport::note_in, py::arg("transport"), py::arg("trace"));
  m.def("exchange_clocks", &py_exchange_clocks, py::arg("transport"), py::arg("turns"),
        py::kw_only(), py::arg("timeout_s") = 300.0);
}

}  // namespace mls
