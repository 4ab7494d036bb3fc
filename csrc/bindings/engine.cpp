// The engine with the arrays that its operations still use.
#include "comm/engine.hpp"

#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <vector>

#include "bindings/operations.hpp"
#include "bindings/ps.hpp"
#include "bindings/register.hpp"

namespace py = pybind11;

namespace mls {
namespace {

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
      for (const auto& [ticket, arrays] : arrays_) {
        for (const py::object& array : arrays) array.inc_ref();
      }
    }
  }
  PyEngine(const PyEngine&) = delete;
  PyEngine& operator=(const PyEngine&) = delete;

  // The operation's ticket, with its parts where it brings some.
  py::object submit(const Prepared& prepared) {
    forget_completed();
    const std::uint64_t ticket = engine_->submit(
        prepared.name, [body = prepared.body](Transport& transport) { body(transport, {}); });
    arrays_.emplace(ticket, prepared.owners);
    if (!prepared.parts) return py::int_(ticket);
    return py::make_tuple(ticket, prepared.parts);
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
  bool wait_for(std::uint64_t ticket, std::chrono::duration<double> time) {
    const py::gil_scoped_release unlocked;
    return engine_->wait_for(ticket, time);
  }

  void forget_completed() {
    arrays_.erase(arrays_.begin(), arrays_.upper_bound(engine_->completed()));
  }

  std::shared_ptr<Transport> transport_;
  std::unique_ptr<Engine> engine_;
  std::map<std::uint64_t, std::vector<py::object>> arrays_;  // by ticket
};

}  // namespace

void register_engine(py::module_& m) {
  py::class_<PyEngine> engine(m, "Engine");
  engine.def(py::init<std::shared_ptr<Transport>>(), py::arg("transport"))
      .def("wait", &PyEngine::wait, py::arg("ticket"), py::kw_only(), py::arg("timeout_s") = 300.0)
      .def("done", &PyEngine::done, py::arg("ticket"))
      .def("close", &PyEngine::close, py::kw_only(), py::arg("timeout_s") = 5.0);
  define_operations<PyEngine>(
      engine, [](PyEngine& self, const Prepared& prepared) { return self.submit(prepared); });
  define_requests<PyEngine>(
      engine, [](PyEngine& self, const Prepared& prepared) { return self.submit(prepared); });
}

}  // namespace mls
