// Each function views arrays as spans and returns what is to be done with them, which touches no
// Python object.
#include "bindings/operations.hpp"

#include <array>
#include <cstring>
#include <utility>

#include "bindings/register.hpp"

namespace py = pybind11;

namespace mls {
namespace {

using Watch = std::function<void()>;

Options options_of(const std::string& label, double timeout_s, Fault fault, const Passed& passed,
                   std::size_t segment_bytes = 0, bool check = true) {
  return {.label = label,
          .timeout = duration_of(timeout_s),
          .segment_bytes = segment_bytes,
          .check = check,
          .fault = fault,
          .passed = passed};
}

Options watched(Options options, const Watch& watch) {
  options.watch = watch;
  return options;
}

std::string named(const char* operation, const std::string& label) {
  return label.empty() ? operation : std::string(operation) + " of " + label;
}

// Sets a fault unless there is one already.
void blame(Fault& fault, Fault found) {
  if (fault == Fault::none) fault = found;
}

AllReduce request_of(int dtype, const std::string& op, const std::string& algorithm,
                     const std::string& order, Options options) {
  AllReduce request{.options = std::move(options)};
  Fault& fault = request.options.fault;
  if (dtype >= 0) {
    request.dtype = static_cast<DType>(dtype);
  } else {
    blame(fault, Fault::unsupported_dtype);
  }
  constexpr std::array<std::string_view, 4> kOps{"sum", "min", "max", "product"};
  const auto found = std::ranges::find(kOps, op);
  if (op == "average") {
    request.average = true;
  } else if (found != kOps.end()) {
    request.op = static_cast<ReduceOp>(found - kOps.begin());
  } else {
    blame(fault, Fault::unknown_operation);
  }
  const std::optional<Algorithm> asked = algorithm_named(algorithm);
  if (!asked || (order != "any" && order != "tree")) blame(fault, Fault::unknown_algorithm);
  request.algorithm = asked.value_or(Algorithm::automatic);
  request.order = order == "tree" ? Order::tree : Order::any;
  return request;
}

AllReduce watched(AllReduce request, const Watch& watch) {
  request.options.watch = watch;
  return request;
}

// What every rank has for this one, in bytes; rows must be of one size on all ranks.
std::vector<std::size_t> exchange_lengths(Transport& transport,
                                          std::span<const std::size_t> lengths,
                                          std::size_t row_bytes, Options options) {
  options.label = options.label.empty() ? "lengths" : "the lengths of " + options.label;
  const auto size = static_cast<std::size_t>(transport.size());
  const auto rank = static_cast<std::size_t>(transport.rank());
  const std::size_t columns = lengths.size() + 1;
  constexpr std::size_t kNumber = sizeof(std::size_t);
  Scratch memory(transport, (size + 1) * columns * kNumber);
  const std::span<std::byte> own = memory.part(0, columns * kNumber);
  const std::span<std::byte> told = memory.part(own.size(), size * own.size());
  std::memcpy(own.data(), lengths.data(), lengths.size_bytes());
  std::memcpy(own.data() + lengths.size_bytes(), &row_bytes, kNumber);
  all_gather(transport, own, told, {}, 0, options);
  std::vector<std::size_t> all(size * columns);
  std::memcpy(all.data(), told.data(), told.size());
  std::vector<std::size_t> mine;
  for (std::size_t peer = 0; peer < size; ++peer) {
    if (all[peer * columns + lengths.size()] != all[lengths.size()]) {
      throw Failure(FailureKind::config,
                    "the ranks disagree: rank 0 passed rows of " +
                        std::to_string(all[lengths.size()]) + " bytes, rank " +
                        std::to_string(peer) + " rows of " +
                        std::to_string(all[peer * columns + lengths.size()]),
                    {}, true);
    }
    mine.push_back(all[peer * columns + (lengths.size() == 1 ? 0 : rank)]);
  }
  return mine;
}

std::size_t total_of(std::span<const std::size_t> lengths) {
  std::size_t total = 0;
  for (const std::size_t length : lengths) total += length;
  return total;
}

// What is only read may be read-only.
Fault read_fault(const ArrayView& view) {
  return view.fault == Fault::read_only ? Fault::none : view.fault;
}

}  // namespace

Prepared prepare_all_reduce(const py::object& array, const std::string& op, const DTypeName& dtype,
                            const std::string& algorithm, const std::string& order,
                            const std::string& label, double timeout_s, std::size_t segment_bytes,
                            bool check) {
  const ArrayView view = view_of(array, dtype);
  const AllReduce request =
      request_of(view.dtype, op, algorithm, order,
                 options_of(label, timeout_s, view.fault, view.passed, segment_bytes, check));
  return {named("all-reduce", label),
          {view.owner},
          [bytes = view.bytes, request](Transport& transport, const Watch& watch) {
            all_reduce(transport, bytes, watched(request, watch));
          }};
}

Prepared prepare_grouped_all_reduce(const std::vector<py::object>& arrays, const std::string& op,
                                    const DTypeName& dtype, std::size_t fusion_bytes,
                                    const std::string& algorithm, const std::string& order,
                                    const std::string& label, double timeout_s) {
  Prepared prepared{named("grouped all-reduce", label), {}, {}};
  std::vector<std::span<std::byte>> spans;
  Fault fault = Fault::none;
  int common = 0;
  for (const py::object& array : arrays) {
    const ArrayView view = view_of(array, dtype);
    if (spans.empty()) common = view.dtype;
    blame(fault, view.dtype == common ? view.fault : Fault::unsupported_dtype);
    spans.push_back(view.bytes);
    prepared.owners.push_back(view.owner);
  }
  const AllReduce request =
      request_of(common, op, algorithm, order, options_of(label, timeout_s, fault, {}));
  prepared.body = [spans, fusion_bytes, request](Transport& transport, const Watch& watch) {
    grouped_all_reduce(transport, spans, fusion_bytes, watched(request, watch));
  };
  return prepared;
}

Prepared prepare_reduce_scatter(const py::object& array, const std::string& op, std::size_t row,
                                const DTypeName& dtype, const std::string& order,
                                const std::string& label, double timeout_s) {
  const ArrayView view = view_of(array, dtype);
  const AllReduce request = request_of(view.dtype, op, "auto", order,
                                       options_of(label, timeout_s, view.fault, view.passed));
  return {named("reduce-scatter", label),
          {view.owner},
          [bytes = view.bytes, row, request](Transport& transport, const Watch& watch) {
            reduce_scatter(transport, bytes, std::max<std::size_t>(row, 1),
                           watched(request, watch));
          }};
}

Prepared prepare_broadcast(const py::object& array, int root, const DTypeName& dtype,
                           const std::string& label, double timeout_s, std::size_t segment_bytes,
                           bool check) {
  const ArrayView view = view_of(array, dtype);
  const Options options =
      options_of(label, timeout_s, view.fault, view.passed, segment_bytes, check);
  return {named("broadcast", label),
          {view.owner},
          [bytes = view.bytes, root, type = view.dtype, options](Transport& transport,
                                                                 const Watch& watch) {
            broadcast(transport, bytes, root, type, watched(options, watch));
          }};
}

Prepared prepare_all_gather(const py::object& mine, const py::object& whole,
                            const std::string& label, double timeout_s, std::size_t segment_bytes,
                            bool check) {
  const ArrayView from = view_of(mine, std::nullopt);
  const ArrayView into = view_of(whole, std::nullopt);
  const Fault fault = read_fault(from) == Fault::none ? into.fault : from.fault;
  const Options options = options_of(label, timeout_s, fault, from.passed, segment_bytes, check);
  return {named("all-gather", label),
          {into.owner, from.owner},
          [from = from.bytes, into = into.bytes, type = from.dtype, options](Transport& transport,
                                                                             const Watch& watch) {
            all_gather(transport, from, into, {}, type, watched(options, watch));
          }};
}

Prepared prepare_gather_parts(const py::object& mine, std::size_t row_bytes, const DTypeName& dtype,
                              const std::string& label, double timeout_s) {
  const ArrayView view = view_of(mine, dtype);
  const Options options = options_of(label, timeout_s, read_fault(view), view.passed);
  const auto parts = std::make_shared<Parts>();
  return {named("all-gather", label),
          {view.owner, py::cast(parts)},
          [bytes = view.bytes, type = view.dtype, row_bytes, options, parts](Transport& transport,
                                                                             const Watch& watch) {
            const Options now = watched(options, watch);
            const std::size_t length = bytes.size();
            parts->lengths = exchange_lengths(transport, {&length, 1}, row_bytes, now);
            parts->bytes.resize(total_of(parts->lengths));
            all_gather(transport, bytes, parts->bytes, parts->lengths, type, now);
          },
          parts};
}

Prepared prepare_all_to_all(const py::object& sent, const std::vector<std::size_t>& sent_lengths,
                            std::size_t row_bytes, const DTypeName& dtype, const std::string& label,
                            double timeout_s) {
  const ArrayView view = view_of(sent, dtype);
  Options options = options_of(label, timeout_s, read_fault(view), view.passed);
  const auto parts = std::make_shared<Parts>();
  return {named("all-to-all", label),
          {view.owner, py::cast(parts)},
          [bytes = view.bytes, type = view.dtype, sent_lengths, row_bytes, options, parts](
              Transport& transport, const Watch& watch) {
            Options now = watched(options, watch);
            const bool fits = sent_lengths.size() == static_cast<std::size_t>(transport.size()) &&
                              total_of(sent_lengths) == bytes.size();
            if (!fits) blame(now.fault, Fault::wrong_size);
            std::vector<std::size_t> lengths(static_cast<std::size_t>(transport.size()));
            if (fits) lengths = sent_lengths;
            parts->lengths = exchange_lengths(transport, lengths, row_bytes, now);
            parts->bytes.resize(total_of(parts->lengths));
            all_to_all(transport, bytes, lengths, parts->bytes, parts->lengths, type, now);
          },
          parts};
}

Prepared prepare_barrier(const std::string& label, double timeout_s) {
  const Options options = options_of(label, timeout_s, Fault::none, {});
  return {named("barrier", label), {}, [options](Transport& transport, const Watch& watch) {
            barrier(transport, watched(options, watch));
          }};
}

}  // namespace mls
