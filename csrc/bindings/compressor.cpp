// What a compressed all-reduce keeps, for Python to make, look at and save.
#include <pybind11/stl.h>

#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/operations.hpp"
#include "bindings/register.hpp"
#include "comm/balanced.hpp"
#include "comm/compressed.hpp"

namespace py = pybind11;

namespace mls {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;

constexpr std::array<std::string_view, 3> kFeedbacks{"none", "classic", "ef21"};
constexpr std::array<std::string_view, 5> kPatterns{"auto", "ring", "owners", "gather", "balanced"};

template <class Names>
std::size_t place_in(const Names& names, const std::string& name, const char* what) {
  const auto found = std::ranges::find(names, name);
  if (found == names.end()) {
    throw Failure(FailureKind::config, std::string("no ") + what + " is called '" + name + "'");
  }
  return static_cast<std::size_t>(found - names.begin());
}

std::shared_ptr<Compressor> make(std::size_t count,
                                 const std::vector<std::pair<std::size_t, std::size_t>>& parts,
                                 const std::vector<std::array<std::size_t, 3>>& matrices,
                                 const std::string& feedback, double momentum, double clip_norm,
                                 const std::string& pattern, std::uint64_t seed) {
  Compression how{.count = count,
                  .feedback = static_cast<Feedback>(place_in(kFeedbacks, feedback, "feedback")),
                  .momentum = momentum,
                  .clip_norm = clip_norm,
                  .pattern = static_cast<Pattern>(place_in(kPatterns, pattern, "pattern")),
                  .seed = seed};
  std::size_t end = 0;
  for (const auto& [start, length] : parts) {
    if (start < end || start > count || length > count - start) {
      throw Failure(FailureKind::config, "parts must be ascending and inside the array");
    }
    how.parts.push_back({start, length});
    end = start + length;
  }
  std::size_t compressed = 0;
  for (const Part part : how.parts) compressed += part.length;
  std::size_t at = 0;
  for (const auto& [start, rows, cols] : matrices) {
    const bool fits = start == at && rows > 0 && cols > 0 && cols <= (compressed - at) / rows;
    if (!fits) throw Failure(FailureKind::config, "matrices must follow one another in the parts");
    how.matrices.push_back({start, rows, cols});
    at += rows * cols;
  }
  if (!matrices.empty() && at != compressed) {
    throw Failure(FailureKind::config, "matrices must fill the parts");
  }
  return std::make_shared<Compressor>(std::move(how));
}

bool can_travel_so(const Spec& spec, const std::string& feedback, const std::string& pattern) {
  return can_travel(spec, static_cast<Feedback>(place_in(kFeedbacks, feedback, "feedback")),
                    static_cast<Pattern>(place_in(kPatterns, pattern, "pattern")));
}

Bytes bytes_of(const std::vector<std::byte>& bytes) {
  Bytes copy(static_cast<py::ssize_t>(bytes.size()));
  std::ranges::copy(bytes, reinterpret_cast<std::byte*>(copy.mutable_data()));
  return copy;
}

py::tuple balanced_frames(const Spec& spec, const Bytes& selection, std::size_t count,
                          std::size_t own, std::size_t ranks, std::uint64_t key) {
  const auto bytes =
      std::as_bytes(std::span(selection.data(), static_cast<std::size_t>(selection.size())));
  Outgoing outgoing;
  {
    const py::gil_scoped_release unlocked;  // the caller's frame keeps the array alive
    outgoing = outgoing_of(spec, bytes, count, own, ranks, key);
  }
  return py::make_tuple(bytes_of(outgoing.frames), outgoing.lengths, bytes_of(outgoing.told));
}

// Copies, as an exchange under way changes the state.
std::map<std::string, Floats> state_of(Compressor& memory) {
  std::map<std::string, Floats> state;
  for (const auto& [name, vector] : memory.state()) {
    if (vector->empty()) continue;
    state[name] = Floats(static_cast<py::ssize_t>(vector->size()), vector->data());
  }
  return state;
}

void load_state(Compressor& memory, const std::map<std::string, Floats>& state) {
  for (const auto& [name, vector] : memory.state()) {
    const auto found = state.find(name);
    vector->clear();
    if (found == state.end()) continue;
    vector->assign(found->second.data(), found->second.data() + found->second.size());
  }
}

}  // namespace

Prepared prepare_compressed_all_reduce(const py::object& array,
                                       const std::shared_ptr<Compressor>& memory, const Spec& spec,
                                       std::uint64_t step, bool measure, const std::string& label,
                                       double timeout_s, bool check) {
  const ArrayView view = view_of(array, std::nullopt);
  Fault fault = view.fault;
  if (fault == Fault::none && view.dtype != static_cast<int>(DType::f32)) {
    fault = Fault::unsupported_dtype;
  }
  const CompressedAllReduce request{.spec = spec,
                                    .step = step,
                                    .measure = measure,
                                    .options = {.label = label,
                                                .timeout = duration_of(timeout_s),
                                                .check = check,
                                                .fault = fault,
                                                .passed = view.passed}};
  const std::span<float> data{reinterpret_cast<float*>(view.bytes.data()),
                              view.bytes.size() / sizeof(float)};
  return {label.empty() ? "compressed all-reduce" : "compressed all-reduce of " + label,
          {view.owner, py::cast(memory)},
          [data, memory, request](Transport& transport, const std::function<void()>& watch) {
            CompressedAllReduce now = request;
            now.options.watch = watch;
            compressed_all_reduce(transport, data, *memory, now);
          }};
}

void register_compressor(py::module_& m) {
  py::class_<Compressor, std::shared_ptr<Compressor>>(m, "Compressor")
      .def(py::init(&make), py::arg("count"), py::kw_only(), py::arg("parts"),
           py::arg("matrices") = std::vector<std::array<std::size_t, 3>>{},
           py::arg("feedback") = "none", py::arg("momentum") = 0.0, py::arg("clip_norm") = 0.0,
           py::arg("pattern") = "auto", py::arg("seed") = 0)
      .def_property_readonly("sent_bytes", [](const Compressor& self) { return self.sent.bytes; })
      .def_property_readonly("messages", [](const Compressor& self) { return self.sent.messages; })
      .def_property_readonly("error", [](const Compressor& self) { return self.error; })
      .def(
          "carry_on",
          [](Compressor& self, const py::array_t<float, py::array::c_style>& sum) {
            py::array_t<float, py::array::c_style> array = sum;
            self.carry_on({array.mutable_data(), static_cast<std::size_t>(array.size())});
          },
          py::arg("gradient").noconvert())
      .def("state", &state_of)
      .def("load_state", &load_state, py::arg("state"));
  m.def("can_travel", &can_travel_so, py::arg("spec"), py::arg("feedback"), py::arg("pattern"));
  m.def("balanced_selection", &selection_of, py::arg("spec"));
  m.def("balanced_frames", &balanced_frames, py::arg("spec"), py::arg("selection").noconvert(),
        py::arg("count"), py::kw_only(), py::arg("rank"), py::arg("size"), py::arg("key"));
  m.def("balanced_telling", &telling_of, py::arg("spec"), py::arg("count"), py::kw_only(),
        py::arg("size"), py::arg("share"));
}

}  // namespace mls
