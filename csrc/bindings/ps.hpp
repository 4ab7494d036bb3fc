// A worker's requests to parameter servers, ready to run now or in the background.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "bindings/operations.hpp"
#include "ps/client.hpp"

namespace mls {

// The client, and the arrays that its requests use until they are settled.
struct PyClient {
  PyClient(std::shared_ptr<Transport> over, std::unique_ptr<Client> made)
      : transport(std::move(over)), owned(std::move(made)), client(*owned) {}
  ~PyClient() {
    owned.reset();
    if (!transport->unsettled()) return;
    // MPI may still use the arrays of requests that were given up: let them live for ever
    for (const auto& [number, array] : kept) array.inc_ref();
  }
  PyClient(const PyClient&) = delete;
  PyClient& operator=(const PyClient&) = delete;

  std::shared_ptr<Transport> transport;
  std::unique_ptr<Client> owned;
  Client& client;
  std::uint64_t prepared = 0;              // requests
  std::atomic<std::uint64_t> settled = 0;  // of these
  std::deque<std::pair<std::uint64_t, pybind11::object>> kept = {};
};
using ClientPointer = std::shared_ptr<PyClient>;

Prepared prepare_ps_push(const ClientPointer& client, std::size_t table,
                         const pybind11::object& gradient, const pybind11::object& into, float rate,
                         bool plain);
Prepared prepare_ps_pull(const ClientPointer& client, std::size_t table,
                         const pybind11::object& into, bool plain);
Prepared prepare_ps_push_rows(const ClientPointer& client, std::size_t table,
                              const pybind11::object& rows, const pybind11::object& gradients,
                              float rate);
Prepared prepare_ps_pull_rows(const ClientPointer& client, std::size_t table,
                              const pybind11::object& rows, const pybind11::object& into);
Prepared prepare_ps_settle(const ClientPointer& client, const std::string& label, double timeout_s);
Prepared prepare_ps_leave(const ClientPointer& client, double timeout_s);

template <class Owner, class Target, class Begin>
void define_requests(Target& target, Begin begin) {
  namespace py = pybind11;
  Definitions<Owner, Target, Begin> all(target, begin);
  const auto client = py::arg("client");
  const auto table = py::arg("table");
  all.def("ps_push", &prepare_ps_push, client, table, py::arg("gradient"), py::arg("into"),
          py::kw_only(), py::arg("rate"), py::arg("plain") = false);
  all.def("ps_pull", &prepare_ps_pull, client, table, py::arg("into"), py::kw_only(),
          py::arg("plain") = false);
  all.def("ps_push_rows", &prepare_ps_push_rows, client, table, py::arg("rows"),
          py::arg("gradients"), py::kw_only(), py::arg("rate"));
  all.def("ps_pull_rows", &prepare_ps_pull_rows, client, table, py::arg("rows"), py::arg("into"));
  all.def("ps_settle", &prepare_ps_settle, client, py::kw_only(), py::arg("label") = "",
          py::arg("timeout_s") = 300.0);
  all.def("ps_leave", &prepare_ps_leave, client, py::kw_only(), py::arg("timeout_s") = 300.0);
}

}  // namespace mls
