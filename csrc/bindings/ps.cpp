#include "bindings/ps.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/register.hpp"
#include "comm/story.hpp"
#include "ps/server.hpp"

namespace py = pybind11;

namespace mls {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Heed = std::function<void()>;

template <class Value>
Value named(const std::map<std::string, Value>& values, const std::string& name, const char* what) {
  const auto found = values.find(name);
  if (found == values.end()) {
    throw Failure(FailureKind::config, std::string("no ") + what + " is called '" + name + "'");
  }
  return found->second;
}

Rule rule_of(const std::string& name, const std::map<std::string, double>& numbers) {
  const std::optional<RuleId> id = rule_named(name);
  if (!id) throw Failure(FailureKind::config, "no rule of a server is called '" + name + "'");
  Rule rule{.id = *id};
  for (const auto& [key, value] : numbers) {
    const std::map<std::string, double*> fields{{"momentum", &rule.momentum},
                                                {"beta1", &rule.beta1},
                                                {"beta2", &rule.beta2},
                                                {"eps", &rule.eps},
                                                {"l1", &rule.l1},
                                                {"l2", &rule.l2},
                                                {"beta", &rule.beta},
                                                {"weight_decay", &rule.weight_decay}};
    if (key == "nesterov") {
      rule.nesterov = value != 0;
    } else if (key == "decoupled") {
      rule.decoupled = value != 0;
    } else {
      *named(fields, key, "number of a rule") = value;
    }
  }
  if (const auto what = problem(rule)) throw Failure(FailureKind::config, *what);
  return rule;
}

TableSpec make_table(const std::string& name, const std::string& kind, std::uint64_t count,
                     std::uint32_t width, const std::string& rule,
                     const std::map<std::string, double>& numbers, const std::string& consistency,
                     std::uint32_t staleness,
                     const std::vector<std::pair<std::uint64_t, std::uint64_t>>& decayed,
                     const std::string& spread, const std::string& initial, float scale,
                     std::uint64_t seed, std::uint32_t urgency, const Spec& codec, bool feedback,
                     std::vector<std::uint64_t> hot) {
  const std::map<std::string, TableSpec::Kind> kinds{{"dense", TableSpec::Kind::dense},
                                                     {"rows", TableSpec::Kind::rows}};
  const std::map<std::string, Consistency> models{
      {"bsp", Consistency::bsp}, {"ssp", Consistency::ssp}, {"asp", Consistency::asp}};
  const std::map<std::string, RowPartition::Kind> spreads{{"hash", RowPartition::Kind::hash},
                                                          {"range", RowPartition::Kind::range}};
  const std::map<std::string, Initial::Kind> firsts{{"zeros", Initial::Kind::zeros},
                                                    {"uniform", Initial::Kind::uniform},
                                                    {"normal", Initial::Kind::normal}};
  TableSpec table{.name = name,
                  .kind = named(kinds, kind, "kind of table"),
                  .count = count,
                  .width = width,
                  .rule = rule_of(rule, numbers),
                  .consistency = named(models, consistency, "consistency"),
                  .staleness = staleness,
                  .spread = named(spreads, spread, "way to spread rows"),
                  .initial = {named(firsts, initial, "way to begin"), scale, seed},
                  .hot = std::move(hot),
                  .urgency = urgency,
                  .codec = codec,
                  .feedback = feedback};
  for (const auto& [start, length] : decayed) table.decayed.push_back({start, length});
  if (table.kind == TableSpec::Kind::dense && rule_row(table.rule.id).rows_only) {
    throw Failure(FailureKind::config, "the rule '" + rule + "' is for tables of rows only");
  }
  const bool ascends =
      std::ranges::adjacent_find(table.hot, std::greater_equal{}) == table.hot.end();
  if (!table.hot.empty() &&
      (table.kind == TableSpec::Kind::dense || !ascends || table.hot.back() >= count)) {
    throw Failure(FailureKind::config, "hot rows are ascending numbers of rows of a table");
  }
  if (codec.codec == CodecId::power_sgd) {
    throw Failure(FailureKind::config, "power_sgd needs all-reduce: servers add up frames");
  }
  if (table.kind == TableSpec::Kind::dense && codec.unbiased) {
    throw Failure(FailureKind::config, "what servers send are differences, not unbiased samples");
  }
  const bool by_element =
      codec.codec == CodecId::none || codec_of(codec.codec).combines == Combines::sum;
  if (!table.hot.empty() && !by_element) {
    throw Failure(FailureKind::config, "hot rows take codecs that are casts, such as fp16");
  }
  if (table.kind == TableSpec::Kind::rows && codec_of(codec.codec).sparse) {
    throw Failure(FailureKind::config,
                  "rows can travel as fp16 or int8, but not as a part of them");
  }
  if (width < 1 || (table.kind == TableSpec::Kind::dense && width != 1)) {
    throw Failure(FailureKind::config, "'" + name + "' needs rows of at least one float");
  }
  return table;
}

void check_ranks(const Transport& transport, const std::vector<int>& ranks) {
  for (const int rank : ranks) {
    if (rank < 0 || rank >= transport.size()) {
      throw Failure(FailureKind::config, "there is no rank " + std::to_string(rank));
    }
  }
  if (ranks.empty()) throw Failure(FailureKind::config, "no ranks are named");
}

std::shared_ptr<PyClient> make_client(const std::shared_ptr<Transport>& transport,
                                      std::vector<TableSpec> tables, std::vector<int> servers,
                                      double patience_s, int worker) {
  check_ranks(*transport, servers);
  return std::make_shared<PyClient>(
      transport, std::make_unique<Client>(*transport, std::move(tables), std::move(servers),
                                          duration_of(patience_s), worker));
}

struct PyServer {
  std::shared_ptr<Transport> transport;
  Server server;
};

std::shared_ptr<PyServer> make_server(const std::shared_ptr<Transport>& transport,
                                      std::vector<TableSpec> tables, std::uint32_t index,
                                      std::uint32_t servers, std::vector<int> workers) {
  check_ranks(*transport, workers);
  if (index >= servers) throw Failure(FailureKind::config, "there is no such server");
  return std::shared_ptr<PyServer>(new PyServer{
      transport, {*transport, std::move(tables), {index, servers, std::move(workers)}}});
}

void run(PyServer& self, double timeout_s) {
  const std::chrono::duration<double> timeout = duration_of(timeout_s);
  const py::gil_scoped_release unlocked;
  self.server.run(timeout, [] {
    const py::gil_scoped_acquire locked;
    check_signals();
  });
}

py::dict counts(const PyServer& self) {
  const Server::Counts counts = self.server.counts();
  py::dict told;
  told["requests"] = counts.requests;
  told["refused"] = counts.refused;
  told["pushes"] = counts.pushes;
  told["pulls"] = counts.pulls;
  told["waiting"] = counts.waiting;
  return told;
}

// Runs a request that uses an array of this frame, which lives for ever where MPI may still use it.
template <class Body>
void with_array(PyClient& self, const py::object& array, Body body) {
  try {
    const py::gil_scoped_release unlocked;
    body();
  } catch (...) {
    self.client.give_up();
    if (self.transport->unsettled()) array.inc_ref();
    throw;
  }
}

Deadline deadline_of(double timeout_s) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(duration_of(timeout_s));
}

std::tuple<Floats, std::uint64_t, std::uint64_t> read(PyClient& self, std::size_t table,
                                                      std::uint32_t server, std::uint64_t start,
                                                      std::uint64_t length, double timeout_s) {
  const TableSpec& spec = self.client.tables().at(table);
  const std::size_t entry = spec.width + rule_row(spec.rule.id).state_of(spec.width);
  Floats values(static_cast<py::ssize_t>(length * entry));
  const std::span<float> into{values.mutable_data(), static_cast<std::size_t>(values.size())};
  Client::Share share;
  with_array(self, values, [&] {
    share = self.client.read(table, server, {start, length}, into, deadline_of(timeout_s));
  });
  return {values, share.updates, share.steps};
}

void write(PyClient& self, std::size_t table, std::uint32_t server, std::uint64_t start,
           std::uint64_t length, const Floats& values, std::uint64_t updates, std::uint64_t steps,
           double timeout_s) {
  const std::span<const float> from{values.data(), static_cast<std::size_t>(values.size())};
  with_array(self, values, [&] {
    self.client.write(table, server, {start, length}, from, {updates, steps},
                      deadline_of(timeout_s));
  });
}

py::tuple snapshot(PyClient& self, std::size_t table, std::uint32_t server,
                   std::optional<std::uint64_t> since, double timeout_s) {
  Client::Begun begun;
  with_array(self, py::none(),
             [&] { begun = self.client.snapshot(table, server, since, deadline_of(timeout_s)); });
  return py::make_tuple(begun.number, begun.updates);
}

// The entries, as numbers in the whole table, and their parameters.
py::object piece(PyClient& self, std::size_t table, std::uint32_t server, std::uint64_t number,
                 double timeout_s) {
  std::optional<Piece> piece;
  std::vector<std::uint64_t> entries;
  const TableSpec& spec = self.client.tables().at(table);
  with_array(self, py::none(), [&] {
    piece = self.client.piece(table, server, number, deadline_of(timeout_s));
    if (!piece) return;
    const bool dense = spec.kind == TableSpec::Kind::dense;
    const RowPartition rows = spec.rows(self.client.servers());
    const Range own = dense ? dense_range(spec.count, self.client.servers(), server) : Range{};
    for (const Range range : piece->ranges) {
      for (std::uint64_t at = range.start; at < range.end(); ++at) {
        entries.push_back(dense ? own.start + at : rows.row({server, at}));
      }
    }
  });
  if (!piece) return py::none();
  const auto count = static_cast<py::ssize_t>(entries.size());
  py::array_t<std::uint64_t> places(count);
  Floats values({count, static_cast<py::ssize_t>(spec.width)});
  std::ranges::copy(entries, places.mutable_data());
  std::ranges::copy(piece->values, values.mutable_data());
  return py::make_tuple(places, values);
}

// An array of floats; throws what is wrong with another.
std::span<float> floats_of(PyClient& self, const py::object& object, bool writes) {
  const ArrayView view = view_of(object, std::nullopt);
  Fault fault = view.fault;
  if (fault == Fault::read_only && !writes) fault = Fault::none;
  if (fault == Fault::none && view.dtype != static_cast<int>(DType::f32)) {
    fault = Fault::unsupported_dtype;
  }
  if (fault != Fault::none) refuse(fault, self.transport->rank());
  self.kept.emplace_back(self.prepared, view.owner);
  return {reinterpret_cast<float*>(view.bytes.data()), view.bytes.size() / sizeof(float)};
}

std::span<const std::uint64_t> keys_of(PyClient& self, const py::object& object) {
  const ArrayView view = view_of(object, std::nullopt);
  const bool fits = view.dtype == static_cast<int>(DType::u64) &&
                    (view.fault == Fault::none || view.fault == Fault::read_only);
  if (!fits) throw Failure(FailureKind::config, "rows must be a contiguous array of uint64");
  self.kept.emplace_back(self.prepared, view.owner);
  return {reinterpret_cast<const std::uint64_t*>(view.bytes.data()),
          view.bytes.size() / sizeof(std::uint64_t)};
}

// Lets go of arrays that are no longer used, and counts one request more.
void next(PyClient& self) {
  const std::uint64_t settled = self.settled.load(std::memory_order_acquire);
  while (!self.kept.empty() && self.kept.front().first <= settled) self.kept.pop_front();
  ++self.prepared;
}

// Something that the client does with this transport.
template <class Body>
Prepared prepared(const char* name, const ClientPointer& client, Body body) {
  return {name, {py::cast(client)}, [client, body](Transport& transport, const Heed& watch) {
            if (&transport != client->transport.get()) {
              throw Failure(FailureKind::config, "this client belongs to another transport");
            }
            body(transport, watch);
          }};
}

// Under a name, with a deadline, and heard of by who asks where this rank stands.
template <class Body>
void tell(Transport& transport, const Heed& watch, const std::string& label, double timeout_s,
          Body body) {
  const Options options{.label = label, .timeout = duration_of(timeout_s), .watch = watch};
  Story story("exchange with the parameter servers", transport, options, 0);
  story.tell([&] { body(story.deadline()); });
}

}  // namespace

Prepared prepare_ps_push(const ClientPointer& client, std::size_t table, const py::object& gradient,
                         const py::object& into, float rate, bool plain) {
  next(*client);
  const std::span<const float> from = floats_of(*client, gradient, false);
  const std::span<float> back =
      into.is_none() ? std::span<float>() : floats_of(*client, into, true);
  return prepared("push", client,
                  [client, table, from, back, rate, plain](Transport&, const Heed&) {
                    client->client.push(table, rate, from, back, plain);
                  });
}

Prepared prepare_ps_pull(const ClientPointer& client, std::size_t table, const py::object& into,
                         bool plain) {
  next(*client);
  const std::span<float> back = floats_of(*client, into, true);
  return prepared("pull", client, [client, table, back, plain](Transport&, const Heed&) {
    client->client.pull(table, back, plain);
  });
}

Prepared prepare_ps_push_rows(const ClientPointer& client, std::size_t table,
                              const py::object& rows, const py::object& gradients, float rate) {
  next(*client);
  const std::span<const std::uint64_t> keys = keys_of(*client, rows);
  const std::span<const float> from = floats_of(*client, gradients, false);
  return prepared("push of rows", client,
                  [client, table, keys, from, rate](Transport&, const Heed&) {
                    client->client.push_rows(table, rate, keys, from);
                  });
}

Prepared prepare_ps_pull_rows(const ClientPointer& client, std::size_t table,
                              const py::object& rows, const py::object& into) {
  next(*client);
  const std::span<const std::uint64_t> keys = keys_of(*client, rows);
  const std::span<float> back = floats_of(*client, into, true);
  return prepared("pull of rows", client, [client, table, keys, back](Transport&, const Heed&) {
    client->client.pull_rows(table, keys, back);
  });
}

Prepared prepare_ps_settle(const ClientPointer& client, const std::string& label,
                           double timeout_s) {
  const std::uint64_t upto = client->prepared;
  return prepared("exchange with the parameter servers", client,
                  [client, label, timeout_s, upto](Transport& transport, const Heed& watch) {
                    tell(transport, watch, label, timeout_s,
                         [&](Deadline deadline) { client->client.settle(deadline); });
                    client->settled.store(upto, std::memory_order_release);
                  });
}

Prepared prepare_ps_leave(const ClientPointer& client, double timeout_s) {
  return prepared("leaving the parameter servers", client,
                  [client, timeout_s](Transport& transport, const Heed& watch) {
                    tell(transport, watch, "leaving", timeout_s,
                         [&](Deadline deadline) { client->client.leave(deadline); });
                  });
}

void register_ps(py::module_& m) {
  py::class_<TableSpec>(m, "Table")
      .def(py::init(&make_table), py::arg("name"), py::kw_only(), py::arg("kind") = "dense",
           py::arg("count"), py::arg("width") = 1, py::arg("rule") = "sgd",
           py::arg("numbers") = std::map<std::string, double>{}, py::arg("consistency") = "bsp",
           py::arg("staleness") = 0,
           py::arg("decayed") = std::vector<std::pair<std::uint64_t, std::uint64_t>>{},
           py::arg("spread") = "hash", py::arg("initial") = "zeros", py::arg("scale") = 0.0f,
           py::arg("seed") = 0, py::arg("urgency") = 0, py::arg("codec") = Spec{},
           py::arg("feedback") = true, py::arg("hot") = std::vector<std::uint64_t>{})
      .def_readonly("name", &TableSpec::name)
      .def_readonly("count", &TableSpec::count)
      .def_readonly("width", &TableSpec::width)
      .def(
          "rows_of",
          [](const TableSpec& self, std::uint32_t servers, std::uint32_t server,
             std::uint64_t start, std::uint64_t length) {
            if (self.kind != TableSpec::Kind::rows || server >= servers) {
              throw Failure(FailureKind::config, "there are no such rows");
            }
            const RowPartition partition = self.rows(servers);
            const std::uint64_t slots = partition.slots(server);
            if (start > slots || length > slots - start) {
              throw Failure(FailureKind::config, "a server has no such slots");
            }
            py::array_t<std::uint64_t> rows(static_cast<py::ssize_t>(length));
            std::uint64_t* const into = rows.mutable_data();
            for (std::uint64_t i = 0; i < length; ++i) into[i] = partition.row({server, start + i});
            return rows;
          },
          py::arg("servers"), py::arg("server"), py::arg("start"), py::arg("length"))
      .def(
          "replicas",
          [](const TableSpec& self, std::uint32_t servers, std::uint32_t server) {
            if (self.kind != TableSpec::Kind::rows || server >= servers) {
              throw Failure(FailureKind::config, "there are no such rows");
            }
            std::vector<std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>> found;
            const Replicas replicas = self.replicas(servers);
            const RowPartition partition = self.rows(servers);
            for (const std::uint64_t row : replicas.behind(server)) {
              const Home home = partition.home(row);
              found.emplace_back(row, home.server, home.slot);
            }
            return found;
          },
          py::arg("servers"), py::arg("server"))
      .def_property_readonly("entry_floats", [](const TableSpec& self) {
        return self.width + rule_row(self.rule.id).state_of(self.width);
      });
  m.def("ps_verbs", [] {
    std::vector<std::tuple<std::string, bool, bool, std::string>> rows;
    for (const VerbRow& row : kVerbs) {
      rows.emplace_back(row.name, row.brings, row.receives, row.meaning);
    }
    return rows;
  });
  m.def(
      "dense_range",
      [](std::uint64_t count, std::uint32_t servers, std::uint32_t server) {
        if (server >= servers) throw Failure(FailureKind::config, "there is no such server");
        const Range range = dense_range(count, servers, server);
        return std::pair(range.start, range.length);
      },
      py::arg("count"), py::arg("servers"), py::arg("server"));
  py::class_<PyServer, std::shared_ptr<PyServer>>(m, "Server")
      .def(py::init(&make_server), py::arg("transport"), py::arg("tables"), py::kw_only(),
           py::arg("index"), py::arg("servers"), py::arg("workers"))
      .def("run", &run, py::kw_only(), py::arg("timeout_s") = 300.0)
      .def("stop", [](PyServer& self) { self.server.stop(); })
      .def("counts", &counts);
  py::class_<PyClient, ClientPointer>(m, "Client")
      .def(py::init(&make_client), py::arg("transport"), py::arg("tables"), py::kw_only(),
           py::arg("servers"), py::arg("patience_s") = 300.0, py::arg("worker") = 0)
      .def(
          "resume_at",
          [](PyClient& self, std::size_t table, std::uint64_t steps) {
            self.client.resume_at(table, steps);
          },
          py::arg("table"), py::arg("steps"))
      .def(
          "feedback",
          [](const PyClient& self, std::size_t table) {
            const Client::Feedback& feedback = self.client.feedback(table);
            const std::vector<float>& residual = feedback.residual;
            return py::make_tuple(
                Floats(static_cast<py::ssize_t>(residual.size()), residual.data()),
                feedback.pushes);
          },
          py::arg("table"))
      .def(
          "set_feedback",
          [](PyClient& self, std::size_t table, const Floats& residual, std::uint64_t pushes) {
            self.client.set_feedback(
                table, {{residual.data(), residual.data() + residual.size()}, pushes});
          },
          py::arg("table"), py::arg("residual"), py::arg("pushes"))
      .def(
          "share",
          [](const PyClient& self, std::size_t table, std::uint32_t server) {
            if (server >= self.client.servers()) {
              throw Failure(FailureKind::config, "there is no such server");
            }
            return self.client.share(table, server);
          },
          py::arg("table"), py::arg("server"))
      .def_property_readonly("sent_bytes",
                             [](const PyClient& self) { return self.client.sent_bytes(); })
      .def_property_readonly("staleness",
                             [](const PyClient& self) { return self.client.staleness(); })
      .def("read", &read, py::arg("table"), py::arg("server"), py::arg("start"), py::arg("length"),
           py::kw_only(), py::arg("timeout_s") = 300.0)
      .def("write", &write, py::arg("table"), py::arg("server"), py::arg("start"),
           py::arg("length"), py::arg("values"), py::kw_only(), py::arg("updates"),
           py::arg("steps"), py::arg("timeout_s") = 300.0)
      .def(
          "observe",
          [](PyClient& self, double timeout_s) {
            with_array(self, py::none(), [&] { self.client.observe(deadline_of(timeout_s)); });
          },
          py::kw_only(), py::arg("timeout_s") = 300.0)
      .def("snapshot", &snapshot, py::arg("table"), py::arg("server"), py::arg("since"),
           py::kw_only(), py::arg("timeout_s") = 300.0)
      .def("piece", &piece, py::arg("table"), py::arg("server"), py::arg("number"), py::kw_only(),
           py::arg("timeout_s") = 300.0)
      .def(
          "drop",
          [](PyClient& self, std::size_t table, std::uint32_t server, std::uint64_t number,
             double timeout_s) {
            with_array(self, py::none(),
                       [&] { self.client.drop(table, server, number, deadline_of(timeout_s)); });
          },
          py::arg("table"), py::arg("server"), py::arg("number"), py::kw_only(),
          py::arg("timeout_s") = 300.0);
}

}  // namespace mls
