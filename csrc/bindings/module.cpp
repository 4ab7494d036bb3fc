// The extension module. Every function checks its arguments, views arrays as spans, releases
// Python's lock (no Python object is touched without it: arrays are kept alive by the caller's
// frame or by the engine's table), and calls one function of csrc/comm.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <unordered_map>

#include "base/reduce.hpp"
#include "bindings/arrays.hpp"
#include "comm/collectives.hpp"
#include "comm/engine.hpp"
#include "comm/mpi.hpp"
#include "comm/threads.hpp"

namespace py = pybind11;

namespace mls {
namespace {

using DTypeName = std::optional<std::string>;

AllReduce request_of(const ArrayView& view, const std::string& op, const std::string& label,
                     double timeout_s, std::size_t segment_bytes, bool check) {
  AllReduce request;
  if (op == "min") {
    request.op = ReduceOp::min;
  } else if (op == "max") {
    request.op = ReduceOp::max;
  } else if (op == "average") {
    request.average = true;
  } else if (op != "sum") {
    throw Failure(FailureKind::config,
                  "op = '" + op + "' is unknown; use 'sum', 'average', 'min' or 'max'");
  }
  Fault fault = view.fault;
  if (view.dtype < 0 && fault == Fault::none) fault = Fault::unsupported_dtype;
  request.dtype = view.dtype < 0 ? DType::u8 : static_cast<DType>(view.dtype);
  request.options = {.label = label,
                     .timeout = std::chrono::duration<double>(timeout_s),
                     .segment_bytes = std::max<std::size_t>(segment_bytes, 8),
                     .check = check || fault != Fault::none,
                     .fault = fault};
  return request;
}

Options options_of(const ArrayView& view, const std::string& label, double timeout_s,
                   std::size_t segment_bytes, bool check) {
  return {.label = label,
          .timeout = std::chrono::duration<double>(timeout_s),
          .segment_bytes = std::max<std::size_t>(segment_bytes, 8),
          .check = check || view.fault != Fault::none,
          .fault = view.fault};
}

void check_handle(std::size_t handle_size) {
  const MpiBuild build = mpi_build();
  if (handle_size != build.handle_size) {
    throw Failure(FailureKind::config,
                  "the running MPI has communicator handles of " + std::to_string(handle_size) +
                      " bytes, but this extension was built for " +
                      std::to_string(build.handle_size) + " bytes (" + build.library + ")");
  }
}

// The engine with the arrays that its operations still use.
class PyEngine {
 public:
  explicit PyEngine(std::shared_ptr<Transport> transport)
      : transport_(std::move(transport)), engine_(std::make_unique<Engine>(*transport_)) {}

  ~PyEngine() {
    const py::gil_scoped_release unlocked;
    engine_.reset();
  }

  std::uint64_t all_reduce(const py::array& array, const std::string& op, const DTypeName& dtype,
                           const std::string& label, double timeout_s, std::size_t segment_bytes,
                           bool check) {
    const ArrayView view = view_of(array, dtype);
    const AllReduce request = request_of(view, op, label, timeout_s, segment_bytes, check);
    return keep(array, engine_->submit("all-reduce of " + label, [=](Transport& transport) {
      mls::all_reduce(transport, view.bytes, request);
    }));
  }

  void wait(std::uint64_t ticket, double timeout_s) {
    {
      const py::gil_scoped_release unlocked;
      engine_->wait(ticket, std::chrono::duration<double>(timeout_s));
    }
    arrays_.erase(ticket);
  }

  bool done(std::uint64_t ticket) const { return engine_->done(ticket); }

  void close(double timeout_s) {
    const py::gil_scoped_release unlocked;
    engine_->close(std::chrono::duration<double>(timeout_s));
  }

 private:
  std::uint64_t keep(const py::array& array, std::uint64_t ticket) {
    arrays_.emplace(ticket, array);
    return ticket;
  }

  std::shared_ptr<Transport> transport_;
  std::unique_ptr<Engine> engine_;
  std::unordered_map<std::uint64_t, py::array> arrays_;
};

void register_failures() {
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const Failure& failure) {
      const py::module_ errors = py::module_::import("mpimlsys.errors");
      switch (failure.kind()) {
        case FailureKind::config: {
          const py::object kind = errors.attr("ConfigError");
          const py::object error = kind(failure.what());
          error.attr("on_all_ranks") = true;
          PyErr_SetObject(kind.ptr(), error.ptr());
          break;
        }
        case FailureKind::timeout: {
          const py::object kind = errors.attr("Timeout");
          PyErr_SetObject(kind.ptr(), kind(failure.what()).ptr());
          break;
        }
        case FailureKind::rank_failed: {
          const py::object kind = errors.attr("RankFailed");
          PyErr_SetObject(kind.ptr(), kind(failure.what(), failure.ranks()).ptr());
          break;
        }
      }
    }
  });
}

void register_reductions(py::module_& m) {
  m.def("isa_levels", [] {
    std::vector<std::string> names;
    for (const std::string_view name : isa_levels()) names.emplace_back(name);
    return names;
  });
  m.def("isa", [] { return std::string(isa()); });
  m.def("set_isa", [](const std::string& name) {
    if (!set_isa(name)) {
      throw Failure(FailureKind::config, "this machine has no instruction set '" + name + "'");
    }
  });
}

void register_transports(py::module_& m) {
  py::class_<Transport, std::shared_ptr<Transport>>(m, "Transport")
      .def_property_readonly("rank", &Transport::rank)
      .def_property_readonly("size", &Transport::size);
  m.def("MpiTransport", [](std::uintptr_t comm_address, std::size_t handle_size) {
    check_handle(handle_size);
    return std::shared_ptr<Transport>(mpi_transport(comm_address));
  });
  py::class_<ThreadWorld, std::shared_ptr<ThreadWorld>>(m, "ThreadWorld")
      .def(py::init([](int size) {
        if (size < 1 || size > 1024) {
          throw Failure(FailureKind::config, "a thread world has 1 to 1024 ranks");
        }
        return std::make_shared<ThreadWorld>(size);
      }))
      .def_property_readonly("size", &ThreadWorld::size)
      .def("transport", [](const std::shared_ptr<ThreadWorld>& world, int rank) {
        if (rank < 0 || rank >= world->size()) {
          throw Failure(FailureKind::config, "no such rank");
        }
        return std::shared_ptr<Transport>(world->transport(rank));
      });
}

void register_collectives(py::module_& m) {
  constexpr std::size_t kSegment = Options{}.segment_bytes;
  m.def(
      "all_reduce",
      [](Transport& transport, const py::array& array, const std::string& op,
         const DTypeName& dtype, const std::string& label, double timeout_s,
         std::size_t segment_bytes, bool check) {
        const ArrayView view = view_of(array, dtype);
        const AllReduce request = request_of(view, op, label, timeout_s, segment_bytes, check);
        const py::gil_scoped_release unlocked;
        all_reduce(transport, view.bytes, request);
      },
      py::arg("transport"), py::arg("array"), py::arg("op") = "sum", py::kw_only(),
      py::arg("dtype") = py::none(), py::arg("label") = "", py::arg("timeout_s") = 300.0,
      py::arg("segment_bytes") = kSegment, py::arg("check") = true);
  m.def(
      "broadcast",
      [](Transport& transport, const py::array& array, int root, const DTypeName& dtype,
         const std::string& label, double timeout_s, std::size_t segment_bytes) {
        const ArrayView view = view_of(array, dtype);
        const Options options = options_of(view, label, timeout_s, segment_bytes, true);
        const py::gil_scoped_release unlocked;
        broadcast(transport, view.bytes, root, view.dtype, options);
      },
      py::arg("transport"), py::arg("array"), py::arg("root"), py::kw_only(),
      py::arg("dtype") = py::none(), py::arg("label") = "", py::arg("timeout_s") = 300.0,
      py::arg("segment_bytes") = kSegment);
  m.def(
      "all_gather",
      [](Transport& transport, const py::array& mine, const py::array& whole,
         const std::string& label, double timeout_s) {
        const ArrayView send = view_of(mine, std::nullopt);
        const ArrayView receive = view_of(whole, std::nullopt);
        Options options = options_of(receive, label, timeout_s, kSegment, true);
        if (send.fault != Fault::none && send.fault != Fault::read_only) {
          options.fault = send.fault;
        }
        const py::gil_scoped_release unlocked;
        all_gather(transport, send.bytes, receive.bytes, send.dtype, options);
      },
      py::arg("transport"), py::arg("mine"), py::arg("whole"), py::kw_only(), py::arg("label") = "",
      py::arg("timeout_s") = 300.0);
  m.def(
      "barrier",
      [](Transport& transport, double timeout_s) {
        Options options;
        options.timeout = std::chrono::duration<double>(timeout_s);
        const py::gil_scoped_release unlocked;
        barrier(transport, options);
      },
      py::arg("transport"), py::kw_only(), py::arg("timeout_s") = 300.0);
}

void register_engine(py::module_& m) {
  py::class_<PyEngine>(m, "Engine")
      .def(py::init<std::shared_ptr<Transport>>())
      .def("all_reduce", &PyEngine::all_reduce, py::arg("array"), py::arg("op") = "sum",
           py::kw_only(), py::arg("dtype") = py::none(), py::arg("label") = "",
           py::arg("timeout_s") = 300.0, py::arg("segment_bytes") = Options{}.segment_bytes,
           py::arg("check") = true)
      .def("wait", &PyEngine::wait, py::arg("ticket"), py::kw_only(), py::arg("timeout_s") = 300.0)
      .def("done", &PyEngine::done, py::arg("ticket"))
      .def("close", &PyEngine::close, py::kw_only(), py::arg("timeout_s") = 5.0);
}

py::dict build_info() {
  const MpiBuild build = mpi_build();
  py::dict info;
  info["flavour"] = build.flavour;
  info["library"] = build.library;
  info["handle_size"] = build.handle_size;
  info["compiler"] = __VERSION__;
  info["isa_levels"] = py::module_::import("builtins").attr("list")(py::cast([] {
    std::vector<std::string> names;
    for (const std::string_view name : isa_levels()) names.emplace_back(name);
    return names;
  }()));
  return info;
}

}  // namespace
}  // namespace mls

PYBIND11_MODULE(MLS_MODULE, m) {
  m.doc() = "Collective operations over MPI and over threads; see mpimlsys.native.";
  mls::register_failures();
  mls::register_reductions(m);
  mls::register_transports(m);
  mls::register_collectives(m);
  mls::register_engine(m);
  m.def("build_info", &mls::build_info);
}
