// The codec table on arrays, for tests, benchmarks and whoever wants frames of their own.
//
// Python's lock is released while arrays are encoded and decoded: the caller's frame keeps them
// alive, and no Python object is touched.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <vector>

#include "bindings/register.hpp"
#include "codec/codec.hpp"
#include "codec/crc32c.hpp"
#include "codec/frame.hpp"
#include "codec/low_rank.hpp"

namespace py = pybind11;

namespace mls {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;

CodecId named_codec(const std::string& name) {
  const std::optional<CodecId> id = codec_named(name);
  if (!id) throw Failure(FailureKind::config, "no codec is called '" + name + "'");
  return *id;
}

Spec make_spec(const std::string& codec, double amount, const std::string& values, bool stochastic,
               bool sampled, bool unbiased) {
  const Spec spec{named_codec(codec), amount, named_codec(values), stochastic, sampled, unbiased};
  if (!codec_of(spec.codec).accepts(spec)) {
    throw Failure(FailureKind::config, "the codec '" + codec +
                                           "' does not take these options: amount " +
                                           std::to_string(amount) + ", values '" + values + "'");
  }
  return spec;
}

std::string told(const Spec& spec) {
  std::string text(codec_of(spec.codec).name);
  text += ":" + std::to_string(spec.amount) + "+" + std::string(codec_of(spec.values).name);
  if (spec.stochastic) text += ":stochastic";
  if (spec.sampled) text += ":sampled";
  if (spec.unbiased) text += ":unbiased";
  return text;
}

std::span<const float> floats_of(const Floats& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

std::span<float> floats_of(Floats& array) {
  return {array.mutable_data(), static_cast<std::size_t>(array.size())};
}

std::span<const std::byte> bytes_of(const Bytes& array) {
  return std::as_bytes(std::span(array.data(), static_cast<std::size_t>(array.size())));
}

std::size_t encode_into(const Spec& spec, const Floats& x, Bytes& frame, std::uint64_t key,
                        std::uint64_t first) {
  const std::span<const float> from = floats_of(x);
  const auto room = static_cast<std::size_t>(frame.size());
  if (room < frame_bound(spec, from.size())) {
    throw Failure(FailureKind::config, "the frame has no room: see frame_bound");
  }
  const std::span<std::byte> into = std::as_writable_bytes(std::span(frame.mutable_data(), room));
  const py::gil_scoped_release unlocked;
  return encode_frame(spec, from, {key, first}, into);
}

Bytes encode(const Spec& spec, const Floats& x, std::uint64_t key, std::uint64_t first) {
  Bytes room(static_cast<py::ssize_t>(frame_bound(spec, static_cast<std::size_t>(x.size()))));
  const std::size_t bytes = encode_into(spec, x, room, key, first);
  return Bytes(static_cast<py::ssize_t>(bytes), room.data());
}

void decode_into(const Bytes& frame, Floats& into) {
  const std::span<const std::byte> bytes = bytes_of(frame);
  const std::span<float> out = floats_of(into);
  const py::gil_scoped_release unlocked;
  const Frame opened = open_frame(bytes);
  if (opened.payload.count != out.size()) {
    throw Failure(FailureKind::config, "the frame holds " + std::to_string(opened.payload.count) +
                                           " elements, the array " + std::to_string(out.size()));
  }
  opened.codec.decode(opened.payload, out.data());
}

Floats decode(const Bytes& frame, std::size_t most) {
  const Frame opened = open_frame(bytes_of(frame));
  if (opened.payload.count > most) {
    throw Failure(FailureKind::corrupt, "a damaged frame: it claims to hold " +
                                            std::to_string(opened.payload.count) +
                                            " elements, more than " + std::to_string(most));
  }
  Floats into(static_cast<py::ssize_t>(opened.payload.count));
  decode_into(frame, into);
  return into;
}

void add_into(const Bytes& frame, float factor, Floats& into) {
  const std::span<const std::byte> bytes = bytes_of(frame);
  const std::span<float> out = floats_of(into);
  const py::gil_scoped_release unlocked;
  const Frame opened = open_frame(bytes);
  if (opened.payload.count != out.size()) {
    throw Failure(FailureKind::config, "the frame holds " + std::to_string(opened.payload.count) +
                                           " elements, the array " + std::to_string(out.size()));
  }
  opened.codec.add(opened.payload, factor, out.data());
}

void check_frame(const Bytes& frame, const Spec& spec, std::size_t count) {
  const std::span<const std::byte> bytes = bytes_of(frame);
  const py::gil_scoped_release unlocked;
  open_frame(bytes, spec, count);
}

// What the ranks of an exchange of PowerSGD on a device do on the host.
Floats draw_basis(std::size_t count, std::uint64_t key) {
  Floats q(static_cast<py::ssize_t>(count));
  draw_q({key, 0}, floats_of(q));
  return q;
}

void orthonormalise_in_place(const std::vector<std::array<std::size_t, 3>>& matrices,
                             std::size_t rank, Floats& p) {
  std::vector<Matrix> all;
  for (const auto& [start, rows, cols] : matrices) all.push_back({start, rows, cols});
  if (static_cast<std::size_t>(p.size()) != p_count(all, rank)) {
    throw Failure(FailureKind::config, "these are not the P of the matrices");
  }
  float* const numbers = p.mutable_data();
  const py::gil_scoped_release unlocked;
  orthonormalise(all, rank, numbers);
}

py::list rows() {
  py::list all;
  for (const Codec* codec : codecs()) {
    if (codec == nullptr) continue;
    py::dict row;
    row["name"] = std::string(codec->name);
    row["combines"] = codec->combines == Combines::sum ? "sum" : "gather";
    row["sparse"] = codec->sparse;
    row["granule"] = codec->granule;
    row["fixed_size"] = codec->fixed_size;
    all.append(row);
  }
  return all;
}

}  // namespace

void register_codecs(py::module_& m) {
  py::class_<Spec>(m, "Spec")
      .def(py::init(&make_spec), py::arg("codec"), py::kw_only(), py::arg("amount") = 0.0,
           py::arg("values") = "none", py::arg("stochastic") = false, py::arg("sampled") = false,
           py::arg("unbiased") = false)
      .def_property_readonly(
          "codec", [](const Spec& self) { return std::string(codec_of(self.codec).name); })
      .def_property_readonly("granule",
                             [](const Spec& self) { return codec_of(self.codec).granule; })
      .def_readonly("amount", &Spec::amount)
      .def_property_readonly("sparse", [](const Spec& self) { return codec_of(self.codec).sparse; })
      .def_property_readonly("told", &told);
  const auto key = py::arg("key") = 0;
  const auto first = py::arg("first") = 0;
  m.def("codecs", &rows);
  m.def("frame_bound", &frame_bound, py::arg("spec"), py::arg("count"));
  m.def("encode", &encode, py::arg("spec"), py::arg("x").noconvert(), py::kw_only(), key, first);
  m.def("encode_into", &encode_into, py::arg("spec"), py::arg("x").noconvert(),
        py::arg("frame").noconvert(), py::kw_only(), key, first);
  m.def("decode", &decode, py::arg("frame").noconvert(), py::kw_only(),
        py::arg("most") = std::size_t{1} << 32);
  m.def("decode_into", &decode_into, py::arg("frame").noconvert(), py::arg("into").noconvert());
  m.def("add_into", &add_into, py::arg("frame").noconvert(), py::arg("factor"),
        py::arg("into").noconvert());
  m.def("draw_basis", &draw_basis, py::arg("count"), py::arg("key"));
  m.def("orthonormalise", &orthonormalise_in_place, py::arg("matrices"), py::arg("rank"),
        py::arg("p").noconvert());
  m.def("check_frame", &check_frame, py::arg("frame").noconvert(), py::arg("spec"),
        py::arg("count"));
  m.def(
      "crc32c", [](const Bytes& bytes) { return crc32c(bytes_of(bytes)); },
      py::arg("data").noconvert());
}

}  // namespace mls
