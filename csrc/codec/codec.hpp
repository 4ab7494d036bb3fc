// The codec table: arrays of float32 to payloads and back. A codec never communicates.
//
// One row per codec; tests loop over the rows. A payload says all that is needed to decode it
// together with the header of its frame (frame.hpp): how it was made, such as the ratio of top_k,
// does not matter any more.
//
// Guarantees: encoding depends on the array, the spec and the draw alone, and gives the same bytes
// on every instruction set. NaN and infinity propagate, as each row documents. `check` believes
// nothing; what it accepted can be decoded without further checks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace mls {

// The numbers are on the wire.
enum class CodecId : std::uint8_t {
  none,  // float32 as it is
  fp16,
  bf16,
  fp8_e4m3,
  fp8_e5m2,
  int8,
  int4,
  int2,
  sign,
  ternary,
  natural,
  top_k,
  random_k,
  threshold,
  power_sgd
};
inline constexpr std::size_t kCodecs = 15;

// How what several ranks have encoded is combined.
//   sum     payloads of one spec and draw add up element by element and stay of this size
//   gather  payloads have to be decoded to be added
enum class Combines : std::uint8_t { sum, gather };

// How to encode.
struct Spec {
  CodecId codec = CodecId::none;
  double amount = 0;  // ratio of top_k and random_k, bound of threshold, rank of power_sgd
  CodecId values = CodecId::none;  // how the values of a sparse payload travel
  bool stochastic = false;         // int8, int4, int2: round up or down at random, without bias
  bool sampled = false;            // top_k: the threshold comes from a sample, as in DGC
  bool unbiased = false;           // random_k: values are multiplied by count / k

  bool operator==(const Spec&) const = default;
};

// Where the randomness of one encoding comes from: numbers `first`, `first + 1`, ... of the stream
// `key`. Ranks that must draw alike pass the same.
struct Draw {
  std::uint64_t key = 0;
  std::uint64_t first = 0;
};

// A payload that came or was made.
struct Payload {
  std::span<const std::byte> bytes;
  std::size_t count = 0;           // elements of the array
  CodecId values = CodecId::none;  // of a sparse payload
};

struct Codec {
  CodecId id;
  std::string_view name;
  Combines combines;
  bool sparse;
  // Elements. An array may be cut at multiples of it, and the payloads of the pieces, one after the
  // other, are that of the whole; 0 where it cannot be cut.
  std::size_t granule;
  // Whether the spec's amount and options make sense for this codec.
  bool (*accepts)(const Spec& spec);
  // Bytes of the payload of `count` elements at most; exactly, where the row says fixed_size and
  // the spec is not of a sample.
  std::size_t (*bound)(const Spec& spec, std::size_t count);
  bool fixed_size;
  // Returns the bytes written to `payload`, which has room for the bound.
  std::size_t (*encode)(const Spec& spec, std::span<const float> x, Draw draw, std::byte* payload);
  // Whether it can be decoded.
  bool (*check)(const Payload& payload);
  // into[i] = decoded[i], for all `count` elements
  void (*decode)(const Payload& payload, float* into);
  // into[i] += factor * decoded[i]
  void (*add)(const Payload& payload, float factor, float* into);
};

// The row of a codec; throws Failure for a number that is none.
const Codec& codec_of(CodecId id);

// How payloads of this spec are combined: those of a sparse row as their values allow.
Combines combines(const Spec& spec);

// All rows, in the order of CodecId.
std::span<const Codec* const> codecs();

std::optional<CodecId> codec_named(std::string_view name);

}  // namespace mls
