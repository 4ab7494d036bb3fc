// Collective operations on Python arrays, ready to run now or in the background.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/arrays.hpp"
#include "comm/collectives.hpp"
#include "comm/compressor.hpp"

namespace mls {

// What an operation brings whose size is not known before: parts from all ranks.
struct Parts {
  std::vector<std::size_t> lengths;  // bytes
  std::vector<std::byte> bytes;
};

struct Prepared {
  std::string name;  // for reports
  std::vector<pybind11::object> owners;
  std::function<void(Transport&, const std::function<void()>& watch)> body;
  std::shared_ptr<Parts> parts = {};
};

// Defines each operation as a method of `target`, or as a function of it that takes the owner
// first: begin(owner, prepared).
template <class Owner, class Target, class Begin>
class Definitions {
 public:
  Definitions(Target& target, Begin begin) : target_(target), begin_(begin) {}

  template <class... Args, class... Extra>
  void def(const char* name, Prepared (*prepare)(Args...), const Extra&... extra) {
    const auto start = [prepare, begin = begin_](Owner& owner, Args... args) {
      return begin(owner, prepare(args...));
    };
    if constexpr (std::is_same_v<Target, pybind11::module_>) {
      target_.def(name, start, pybind11::arg("transport"), extra...);
    } else {
      target_.def(name, start, extra...);
    }
  }

 private:
  Target& target_;
  Begin begin_;
};

using DTypeName = std::optional<std::string>;

Prepared prepare_all_reduce(const pybind11::object& array, const std::string& op,
                            const DTypeName& dtype, const std::string& algorithm,
                            const std::string& order, const std::string& label, double timeout_s,
                            std::size_t segment_bytes, bool check);
Prepared prepare_grouped_all_reduce(const std::vector<pybind11::object>& arrays,
                                    const std::string& op, const DTypeName& dtype,
                                    std::size_t fusion_bytes, const std::string& algorithm,
                                    const std::string& order, const std::string& label,
                                    double timeout_s);
Prepared prepare_reduce_scatter(const pybind11::object& array, const std::string& op,
                                std::size_t row, const DTypeName& dtype, const std::string& order,
                                const std::string& label, double timeout_s);
Prepared prepare_broadcast(const pybind11::object& array, int root, const DTypeName& dtype,
                           const std::string& label, double timeout_s, std::size_t segment_bytes,
                           bool check);
Prepared prepare_all_gather(const pybind11::object& mine, const pybind11::object& whole,
                            const std::string& label, double timeout_s, std::size_t segment_bytes,
                            bool check);
Prepared prepare_gather_parts(const pybind11::object& mine, std::size_t row_bytes,
                              const DTypeName& dtype, const std::string& label, double timeout_s);
Prepared prepare_all_to_all(const pybind11::object& sent,
                            const std::vector<std::size_t>& sent_lengths, std::size_t row_bytes,
                            const DTypeName& dtype, const std::string& label, double timeout_s);
Prepared prepare_compressed_all_reduce(const pybind11::object& array,
                                       const std::shared_ptr<Compressor>& memory, const Spec& spec,
                                       std::uint64_t step, bool measure, const std::string& label,
                                       double timeout_s, bool check);
Prepared prepare_barrier(const std::string& label, double timeout_s);

template <class Owner, class Target, class Begin>
void define_operations(Target& target, Begin begin) {
  namespace py = pybind11;
  Definitions<Owner, Target, Begin> all(target, begin);
  const auto dtype = py::arg("dtype") = py::none();
  const auto label = py::arg("label") = "";
  const auto timeout = py::arg("timeout_s") = 300.0;
  const auto segment = py::arg("segment_bytes") = 0;
  const auto check = py::arg("check") = true;
  const auto op = py::arg("op") = "sum";
  const auto algorithm = py::arg("algorithm") = "auto";
  const auto order = py::arg("order") = "any";
  all.def("all_reduce", &prepare_all_reduce, py::arg("array"), op, py::kw_only(), dtype, algorithm,
          order, label, timeout, segment, check);
  all.def("grouped_all_reduce", &prepare_grouped_all_reduce, py::arg("arrays"), op, py::kw_only(),
          dtype, py::arg("fusion_bytes") = std::size_t{64} << 20, algorithm, order, label, timeout);
  all.def("reduce_scatter", &prepare_reduce_scatter, py::arg("array"), op, py::kw_only(),
          py::arg("row") = 1, dtype, order, label, timeout);
  all.def("broadcast", &prepare_broadcast, py::arg("array"), py::arg("root"), py::kw_only(), dtype,
          label, timeout, segment, check);
  all.def("all_gather", &prepare_all_gather, py::arg("mine"), py::arg("whole"), py::kw_only(),
          label, timeout, segment, check);
  all.def("gather_parts", &prepare_gather_parts, py::arg("mine"), py::kw_only(),
          py::arg("row_bytes") = 1, dtype, label, timeout);
  all.def("all_to_all", &prepare_all_to_all, py::arg("sent"), py::arg("lengths"), py::kw_only(),
          py::arg("row_bytes") = 1, dtype, label, timeout);
  all.def("compressed_all_reduce", &prepare_compressed_all_reduce, py::arg("array"),
          py::arg("memory"), py::arg("spec"), py::kw_only(), py::arg("step"),
          py::arg("measure") = false, label, timeout, check);
  all.def("barrier", &prepare_barrier, py::kw_only(), label, timeout);
}

}  // namespace mls
