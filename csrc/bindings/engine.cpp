// The engine with the arrays that its operations still use.
#include "comm/engine.hpp"

#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <vector>

#include "bindings/register.hpp"

namespace py = pybind11;

namespace mls {
namespace {

using DTypeName = std::optional<std::string>;

// Between two looks at Python's signals.
constexpr std::chrono::duration<double> kSlice = std::chrono::milliseconds(50);

class PyEngine {
 public:
  explicit PyEngine(std::shared_ptr<Transport> transport)
      : transport_(std::move(transport)), engine_(std::make_unique<Engine>(*transport_)) {}

  ~PyEngine() {
    {
      const py::gil_scoped_release unlocked;
      engine_.reset();
    }
    // MPI may still use the arrays of operations that were given up: let them live for ever
    if (transport_->unsettled()) {
      for (const auto& [ticket, array] : arrays_) array.inc_ref();
    }
  }
  PyEngine(const PyEngine&) = delete;
  PyEngine& operator=(const PyEngine&) = delete;

  std::uint64_t all_reduce(const py::object& array, const std::string& op, const DTypeName& dtype,
                           const std::string& label, double timeout_s, std::size_t segment_bytes,
                           bool check) {
    const ArrayView view = view_of(array, dtype);
    const AllReduce request = all_reduce_request(
        view, op, options_of(label, timeout_s, segment_bytes, check, view.fault));
    return submit("all-reduce", label, view.owner,
                  [bytes = view.bytes, request](Transport& transport) {
                    mls::all_reduce(transport, bytes, request);
                  });
  }

  std::uint64_t broadcast(const py::object& array, int root, const DTypeName& dtype,
                          const std::string& label, double timeout_s, std::size_t segment_bytes,
                          bool check) {
    const ArrayView view = view_of(array, dtype);
    const Options options = options_of(label, timeout_s, segment_bytes, check, view.fault);
    return submit("broadcast", label, view.owner,
                  [bytes = view.bytes, root, type = view.dtype, options](Transport& transport) {
                    mls::broadcast(transport, bytes, root, type, options);
                  });
  }

  void wait(std::uint64_t ticket, double timeout_s) {
    const std::chrono::duration<double> timeout = duration_of(timeout_s);
    const Clock::time_point started = Clock::now();
    while (true) {
      const std::chrono::duration<double> waited = Clock::now() - started;
      if (wait_for(ticket, std::min(kSlice, timeout - waited))) break;
      check_signals();
      if (waited >= timeout) engine_->give_up(ticket, waited);
    }
    forget_completed();
  }

  bool done(std::uint64_t ticket) const { return engine_->done(ticket); }

  void close(double timeout_s) {
    const std::chrono::duration<double> timeout = duration_of(timeout_s);
    const py::gil_scoped_release unlocked;
    engine_->close(timeout);
  }

 private:
  std::uint64_t submit(const std::string& operation, const std::string& label,
                       const py::object& array, std::function<void(Transport&)> body) {
    forget_completed();
    const std::string name = label.empty() ? operation : operation + " of " + label;
    const std::uint64_t ticket = engine_->submit(name, std::move(body));
    arrays_.emplace(ticket, array);
    return ticket;
  }

  bool wait_for(std::uint64_t ticket, std::chrono::duration<double> time) {
    const py::gil_scoped_release unlocked;
    return engine_->wait_for(ticket, time);
  }

  void forget_completed() {
    arrays_.erase(arrays_.begin(), arrays_.upper_bound(engine_->completed()));
  }

  std::shared_ptr<Transport> transport_;
  std::unique_ptr<Engine> engine_;
  std::map<std::uint64_t, py::object> arrays_;  // by ticket
};

}  // namespace

void register_engine(py::module_& m) {
  py::class_<PyEngine>(m, "Engine")
      .def(py::init<std::shared_ptr<Transport>>(), py::arg("transport"))
      .def("all_reduce", &PyEngine::all_reduce, py::arg("array"), py::arg("op") = "sum",
           py::kw_only(), py::arg("dtype") = py::none(), py::arg("label") = "",
           py::arg("timeout_s") = 300.0, py::arg("segment_bytes") = kDefaultSegmentBytes,
           py::arg("check") = true)
      .def("broadcast", &PyEngine::broadcast, py::arg("array"), py::arg("root"), py::kw_only(),
           py::arg("dtype") = py::none(), py::arg("label") = "", py::arg("timeout_s") = 300.0,
           py::arg("segment_bytes") = kDefaultSegmentBytes, py::arg("check") = true)
      .def("wait", &PyEngine::wait, py::arg("ticket"), py::kw_only(), py::arg("timeout_s") = 300.0)
      .def("done", &PyEngine::done, py::arg("ticket"))
      .def("close", &PyEngine::close, py::kw_only(), py::arg("timeout_s") = 5.0);
}

}  // namespace mls
