// The extension for GPUs. Arrays come as addresses: which arrays may, Python has looked at.
#include "cuda/device.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "bindings/register.hpp"

namespace py = pybind11;

namespace mls::device {
namespace {

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

Feedback feedback_named(const std::string& name) {
  if (name == "none") return Feedback::none;
  if (name == "classic") return Feedback::classic;
  if (name == "ef21") return Feedback::ef21;
  throw Failure(FailureKind::config, "no error feedback is called '" + name + "'");
}

Combine combine_of(const std::string& dtype, const std::string& op, int divisor,
                   const std::string& order) {
  const std::optional<DType> type = dtype_named(dtype);
  if (!type) throw Failure(FailureKind::config, "arrays of " + dtype + " cannot be reduced");
  constexpr std::array<std::string_view, 4> kOps{"sum", "min", "max", "product"};
  const auto found = std::ranges::find(kOps, op);
  if (found == kOps.end())
    throw Failure(FailureKind::config, "no operation is called '" + op + "'");
  if (divisor < 1 || (divisor > 1 && !is_float(*type))) {
    throw Failure(FailureKind::config, "an average is of floats, not of " + dtype);
  }
  return {*type, static_cast<ReduceOp>(found - kOps.begin()), divisor,
          order == "tree" ? Order::tree : Order::any};
}

// Short calls keep Python's lock: to get it back costs more than they do.
template <class Body>
auto without_lock(Body body) {
  const py::gil_scoped_release unlocked;
  return body();
}

template <class T>
std::vector<T*> all_at(const std::vector<Address>& addresses) {
  std::vector<T*> pointers;
  for (const Address address : addresses) pointers.push_back(at<T>(address));
  return pointers;
}

py::tuple counted() {
  std::string why;
  const int count = device_count(why);
  return py::make_tuple(count, why);
}

py::dict told(const DeviceInfo& info) {
  py::dict all;
  all["name"] = info.name;
  all["uuid"] = py::bytes(info.uuid);
  all["number"] = info.number;
  all["count"] = info.count;
  all["compute_capability"] = py::make_tuple(info.major, info.minor);
  all["memory_bytes"] = info.memory;
  all["driver"] = info.driver;
  all["runtime"] = info.runtime;
  all["peers"] = info.peers;
  return all;
}

}  // namespace
}  // namespace mls::device

PYBIND11_MODULE(MLS_MODULE, m) {
  using namespace mls;
  using namespace mls::device;
  m.doc() = "Kernels and memory of one GPU; see mpimlsys.device.";
  register_failures();
  m.attr("targets") = MLS_TARGETS;
  m.def("device_count", &counted);
  const auto unlocked = py::call_guard<py::gil_scoped_release>();
  py::class_<Device>(m, "Device")
      .def(py::init(&open_device), py::arg("number"))
      .def("info", [](Device& self) { return told(self.info()); })
      .def(
          "encode",
          [](Device& self, const Spec& spec, Address x, std::size_t count, Address frame,
             Stream stream, const std::string& feedback, Address kept, std::uint64_t key,
             std::uint64_t first) {
            self.encode(stream, spec, at<const float>(x), count, feedback_named(feedback),
                        at<float>(kept), {key, first}, at<std::byte>(frame));
          },
          py::arg("spec"), py::arg("x"), py::arg("count"), py::arg("frame"), py::kw_only(),
          py::arg("stream"), py::arg("feedback") = "none", py::arg("kept") = 0, py::arg("key") = 0,
          py::arg("first") = 0, unlocked)
      .def(
          "decode",
          [](Device& self, const Spec& spec, std::size_t count, Address frame, std::size_t bytes,
             Address into, Stream stream) {
            self.decode(stream, spec, count, at<const std::byte>(frame), bytes, at<float>(into));
          },
          py::arg("spec"), py::arg("count"), py::arg("frame"), py::arg("bytes"), py::arg("into"),
          py::kw_only(), py::arg("stream"), unlocked)
      .def(
          "add",
          [](Device& self, const Spec& spec, std::size_t count,
             const std::vector<std::pair<Address, std::size_t>>& frames, Address into,
             Stream stream, float factor) {
            std::vector<std::span<const std::byte>> all;
            for (const auto& [frame, bytes] : frames) {
              all.emplace_back(at<const std::byte>(frame), bytes);
            }
            self.add(stream, spec, count, all, factor, at<float>(into));
          },
          py::arg("spec"), py::arg("count"), py::arg("frames"), py::arg("into"), py::kw_only(),
          py::arg("stream"), py::arg("factor") = 1.0f, unlocked)
      .def(
          "clear",
          [](Device& self, const Spec& spec, std::size_t count, Address frame, std::size_t bytes,
             Address into, Stream stream) {
            self.clear(stream, spec, count, at<const std::byte>(frame), bytes, at<float>(into));
          },
          py::arg("spec"), py::arg("count"), py::arg("frame"), py::arg("bytes"), py::arg("into"),
          py::kw_only(), py::arg("stream"), unlocked)
      .def(
          "blend",
          [](Device& self, std::size_t count, float a, Address x, float b, Address y, Address into,
             Stream stream) {
            self.blend(stream, count, a, at<const float>(x), b, at<const float>(y),
                       at<float>(into));
          },
          py::arg("count"), py::arg("a"), py::arg("x"), py::arg("b"), py::arg("y"), py::arg("into"),
          py::kw_only(), py::arg("stream"), unlocked)
      .def(
          "squares",
          [](Device& self, Address x, std::size_t count, Address into, Stream stream) {
            self.squares(stream, at<const float>(x), count, at<double>(into));
          },
          py::arg("x"), py::arg("count"), py::arg("into"), py::kw_only(), py::arg("stream"),
          unlocked)
      .def(
          "clip",
          [](Device& self, Address x, std::size_t count, double most, Stream stream) {
            self.clip(stream, at<float>(x), count, most);
          },
          py::arg("x"), py::arg("count"), py::arg("most"), py::kw_only(), py::arg("stream"),
          unlocked)
      .def(
          "reduce",
          [](Device& self, const std::vector<Address>& from, const std::vector<Address>& into,
             std::size_t count, Stream stream, const std::string& dtype, const std::string& op,
             int divisor, const std::string& order) {
            const auto sources = all_at<const std::byte>(from);
            const auto targets = all_at<std::byte>(into);
            self.reduce(stream, combine_of(dtype, op, divisor, order), sources, targets, count);
          },
          py::arg("sources"), py::arg("into"), py::arg("count"), py::kw_only(), py::arg("stream"),
          py::arg("dtype"), py::arg("op") = "sum", py::arg("divisor") = 1, py::arg("order") = "any",
          unlocked)
      .def(
          "multiply_q",
          [](Device& self, std::size_t rows, std::size_t cols, std::size_t rank, Address matrix,
             Address q, Address p, Stream stream) {
            self.multiply_q(stream, {rows, cols, rank}, at<const float>(matrix), at<const float>(q),
                            at<float>(p));
          },
          py::arg("rows"), py::arg("cols"), py::arg("rank"), py::arg("m"), py::arg("q"),
          py::arg("p"), py::kw_only(), py::arg("stream"), unlocked)
      .def(
          "multiply_p",
          [](Device& self, std::size_t rows, std::size_t cols, std::size_t rank, Address matrix,
             Address p, Address q, Stream stream) {
            self.multiply_p(stream, {rows, cols, rank}, at<const float>(matrix), at<const float>(p),
                            at<float>(q));
          },
          py::arg("rows"), py::arg("cols"), py::arg("rank"), py::arg("m"), py::arg("p"),
          py::arg("q"), py::kw_only(), py::arg("stream"), unlocked)
      .def(
          "expand",
          [](Device& self, std::size_t rows, std::size_t cols, std::size_t rank, Address p,
             Address q, Address matrix, Stream stream, std::optional<float> factor) {
            const Factored shape{rows, cols, rank};
            if (factor) {
              self.add_expanded(stream, shape, at<const float>(p), at<const float>(q), *factor,
                                at<float>(matrix));
            } else {
              self.expand(stream, shape, at<const float>(p), at<const float>(q), at<float>(matrix));
            }
          },
          py::arg("rows"), py::arg("cols"), py::arg("rank"), py::arg("p"), py::arg("q"),
          py::arg("m"), py::kw_only(), py::arg("stream"), py::arg("factor") = py::none(), unlocked)
      .def(
          "allocate",
          [](Device& self, std::size_t bytes, std::optional<Stream> stream) {
            return reinterpret_cast<Address>(stream ? self.allocate(bytes, *stream)
                                                    : self.allocate_shared(bytes));
          },
          py::arg("bytes"), py::kw_only(), py::arg("stream") = py::none(), unlocked)
      .def(
          "release",
          [](Device& self, Address memory, std::optional<Stream> stream) {
            self.release(at<void>(memory), stream ? &*stream : nullptr);
          },
          py::arg("memory"), py::kw_only(), py::arg("stream") = py::none(), unlocked)
      .def(
          "zero",
          [](Device& self, Address memory, std::size_t bytes, Stream stream) {
            self.zero(stream, at<void>(memory), bytes);
          },
          py::arg("memory"), py::arg("bytes"), py::kw_only(), py::arg("stream"), unlocked)
      .def(
          "copy",
          [](Device& self, Address into, Address from, std::size_t bytes, Stream stream) {
            self.copy(stream, at<void>(into), at<const void>(from), bytes);
          },
          py::arg("into"), py::arg("source"), py::arg("bytes"), py::kw_only(), py::arg("stream"),
          unlocked)
      .def(
          "copy_rows",
          [](Device& self, Address into, std::size_t into_step, Address from, std::size_t from_step,
             std::size_t bytes, std::size_t rows, Stream stream) {
            self.copy_rows(stream, at<void>(into), into_step, at<const void>(from), from_step,
                           bytes, rows);
          },
          py::arg("into"), py::arg("into_step"), py::arg("source"), py::arg("source_step"),
          py::arg("bytes"), py::arg("rows"), py::kw_only(), py::arg("stream"), unlocked)
      .def(
          "pin",
          [](Device& self, Address memory, std::size_t bytes) {
            self.pin(at<void>(memory), bytes);
          },
          py::arg("memory"), py::arg("bytes"), unlocked)
      .def(
          "unpin", [](Device& self, Address memory) { self.unpin(at<void>(memory)); },
          py::arg("memory"), unlocked)
      .def("make_stream", &Device::make_stream, unlocked)
      .def("drop_stream", &Device::drop_stream, py::arg("stream"), unlocked)
      .def("make_event", &Device::make_event, py::kw_only(), py::arg("shared") = false,
           py::arg("timed") = false)
      .def("drop_event", &Device::drop_event, py::arg("event"))
      .def("record", &Device::record, py::arg("event"), py::arg("stream"))
      .def("follow", &Device::follow, py::arg("stream"), py::arg("event"))
      .def("ready", &Device::ready, py::arg("event"))
      .def("wait", &Device::wait, py::arg("event"), py::arg("seconds"), unlocked)
      .def("seconds_between", &Device::seconds_between, py::arg("start"), py::arg("end"), unlocked)
      .def(
          "share",
          [](Device& self, Address memory) {
            const auto shared = without_lock([&] { return self.share(at<const void>(memory)); });
            return py::make_tuple(py::bytes(shared.handle), shared.offset, shared.id);
          },
          py::arg("memory"))
      .def(
          "see",
          [](Device& self, const std::string& handle) {
            return reinterpret_cast<Address>(self.see(handle));
          },
          py::arg("handle"), unlocked)
      .def(
          "unsee", [](Device& self, Address memory) { self.unsee(at<void>(memory)); },
          py::arg("memory"), unlocked)
      .def(
          "share_event",
          [](Device& self, Event event) {
            return py::bytes(without_lock([&] { return self.share_event(event); }));
          },
          py::arg("event"))
      .def(
          "see_event",
          [](Device& self, const std::string& handle) { return self.see_event(handle); },
          py::arg("handle"), unlocked);
}
