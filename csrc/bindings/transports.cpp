#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/dtype.hpp"
#include "bindings/register.hpp"
#include "comm/board.hpp"
#include "comm/collectives.hpp"
#include "comm/mpi.hpp"
#include "comm/threads.hpp"
#include "comm/window.hpp"

namespace py = pybind11;

namespace mls {
namespace {

std::shared_ptr<Transport> py_mpi_transport(std::uintptr_t comm_address, std::size_t handle_size) {
  const MpiBuild build = mpi_build();
  if (handle_size != build.handle_size) {
    throw Failure(FailureKind::config,
                  "the running MPI has communicator handles of " + std::to_string(handle_size) +
                      " bytes, but this extension was built for " +
                      std::to_string(build.handle_size) + " bytes (" + build.library + ")");
  }
  return mpi_transport(comm_address);
}

std::shared_ptr<ThreadWorld> py_thread_world(int size) {
  if (size < 1 || size > 1024) {
    throw Failure(FailureKind::config, "a thread world has 1 to 1024 ranks");
  }
  return std::make_shared<ThreadWorld>(size);
}

std::shared_ptr<Transport> py_thread_transport(ThreadWorld& world, int rank) {
  if (rank < 0 || rank >= world.size()) {
    throw Failure(FailureKind::config, "a world of " + std::to_string(world.size()) +
                                           " ranks has no rank " + std::to_string(rank));
  }
  return world.transport(rank);
}

Options patience(double timeout_s) { return {.timeout = duration_of(timeout_s)}; }

// Whether the ranks of the transport meet in shared memory from now on.
// `mates` is a transport of the ranks of this node, in the order that they have in the other.
bool py_attach_board(Transport& transport, Transport& mates, bool patient, double timeout_s) {
  const py::gil_scoped_release unlocked;
  const std::vector<int>& nodes = transport.nodes();
  const int own = nodes[static_cast<std::size_t>(transport.rank())];
  Group group{{}, mates.rank()};
  for (int rank = 0; rank < transport.size(); ++rank) {
    if (nodes[static_cast<std::size_t>(rank)] == own) group.ranks.push_back(rank);
  }
  if (group.size() != mates.size() || group.rank_of(group.index) != transport.rank()) {
    throw Failure(FailureKind::config, "these are not the ranks of the node");
  }
  transport.attach(Board::make(mates, group, patient, patience(timeout_s)));
  return transport.board() != nullptr;
}

void py_place(Transport& transport, const std::vector<int>& nodes) {
  const bool fits = nodes.size() == static_cast<std::size_t>(transport.size()) &&
                    std::ranges::all_of(nodes, [](int node) { return node >= 0; });
  if (!fits) throw Failure(FailureKind::config, "a node of each rank is needed, 0 or more");
  transport.place(nodes);
}

void py_choose(Transport& transport,
               const std::vector<std::pair<std::size_t, std::string>>& choices) {
  Choices chosen;
  for (const auto& [up_to, name] : choices) {
    const std::optional<Algorithm> algorithm = algorithm_named(name);
    if (!algorithm) throw Failure(FailureKind::config, "no algorithm is called '" + name + "'");
    if (!chosen.empty() && up_to <= chosen.back().up_to) {
      throw Failure(FailureKind::config, "choices must be in ascending order of size");
    }
    chosen.push_back({up_to, *algorithm});
  }
  transport.choose(std::move(chosen));
}

std::shared_ptr<Window> py_window(Transport& transport, std::size_t bytes, double timeout_s) {
  const py::gil_scoped_release unlocked;
  return Window::make(transport, bytes, patience(timeout_s));
}

py::dict standing_of(const Transport& transport) {
  const Standing found = transport.standing();
  const Clock::time_point now = Clock::now();
  const auto seconds = [](Clock::duration time) {
    return std::max(0.0, std::chrono::duration<double>(time).count());
  };
  const Passed& passed = found.passed;
  py::list shape;
  for (std::size_t axis = 0; axis < passed.shape.size(); ++axis) {
    if (static_cast<int>(axis) < passed.axes) shape.append(passed.shape[axis]);
  }
  py::dict told;
  told["operation"] = found.operation;
  told["label"] = found.label;
  told["dtype"] = passed.dtype < 0 ? "" : std::string(name_of(static_cast<DType>(passed.dtype)));
  told["axes"] = passed.axes;
  told["shape"] = shape;
  told["number"] = found.number;
  told["running"] = found.running;
  told["started_s"] = seconds(now - found.started);
  told["ended_s"] = found.running ? 0.0 : seconds(now - found.ended);
  told["left_s"] = seconds(found.deadline - now);
  told["step"] = found.step;
  told["steps"] = found.steps;
  told["peer"] = found.peer;
  told["failure"] = found.failure.value_or("");
  return told;
}

py::buffer_info bytes_of(Window& window) {
  const std::span<std::byte> mine = window.mine();
  return {reinterpret_cast<std::uint8_t*>(mine.data()), static_cast<py::ssize_t>(mine.size())};
}

}  // namespace

void register_transports(py::module_& m) {
  py::class_<Transport, std::shared_ptr<Transport>>(m, "Transport")
      .def_property_readonly("rank", &Transport::rank)
      .def_property_readonly("size", &Transport::size)
      .def("standing", &standing_of)
      .def("abandon", &Transport::abandon, py::arg("why"));
  m.def("place", &py_place, py::arg("transport"), py::arg("nodes"));
  m.def("choose", &py_choose, py::arg("transport"), py::arg("choices"));
  m.def("attach_board", &py_attach_board, py::arg("transport"), py::arg("mates"), py::kw_only(),
        py::arg("patient"), py::arg("timeout_s") = 300.0);
  py::class_<Window, std::shared_ptr<Window>>(m, "Window", py::buffer_protocol())
      .def_buffer(&bytes_of);
  m.def("make_window", &py_window, py::arg("transport"), py::arg("nbytes"), py::kw_only(),
        py::arg("timeout_s") = 300.0);
  m.def("MpiTransport", &py_mpi_transport, py::arg("comm_address"), py::arg("comm_handle_size"));
  py::class_<ThreadWorld, std::shared_ptr<ThreadWorld>>(m, "ThreadWorld")
      .def(py::init(&py_thread_world), py::arg("size"))
      .def_property_readonly("size", &ThreadWorld::size)
      .def("transport", &py_thread_transport, py::arg("rank"));
}

}  // namespace mls
