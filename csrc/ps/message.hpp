// What workers and servers send each other; docs/parameter-server.md has the protocol.
//
// A request and its answer start with a header of 80 bytes. What follows fits in the same message,
// or else comes in slices of their own. Nothing in a header is believed before `read_header` has
// checked it, and its numbers are checked against the tables before they are used.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "comm/tag.hpp"

namespace mls {

static_assert(std::endian::native == std::endian::little, "messages are little endian");

enum class Verb : std::uint8_t {
  push,
  pull,
  push_pull,
  read,
  write,
  leave,
  observe,
  snapshot,
  piece,
  drop
};
enum class Status : std::uint8_t { done, repeated, refused, late };

struct VerbRow {
  Verb verb;
  std::string_view name;
  bool brings;    // values follow the request
  bool receives;  // values follow the answer
  std::string_view meaning;
};

// In the order of their numbers.
inline constexpr std::array<VerbRow, 10> kVerbs{{
    {Verb::push, "push", true, false, "gradients of a step"},
    {Verb::pull, "pull", false, true, "parameters, once they are as new as consistency demands"},
    {Verb::push_pull, "push_pull", true, true, "both, of one step"},
    {Verb::read, "read", false, true, "parameters and the optimiser's state, as they are"},
    {Verb::write, "write", true, false, "the same, put in place"},
    {Verb::leave, "leave", false, false, "the worker is done; nobody waits for its pushes"},
    {Verb::observe, "observe", false, false, "the worker only reads; nobody waits for its pushes"},
    {Verb::snapshot, "snapshot", false, false, "the table as it is now, kept to be read"},
    {Verb::piece, "piece", false, true, "the next piece of a snapshot"},
    {Verb::drop, "drop", false, false, "a snapshot need not be kept"},
}};

struct Message {
  std::uint32_t magic = kMagic;
  std::uint8_t version = kVersion;
  Verb verb = Verb::push;
  Status status = Status::done;  // of an answer
  std::uint8_t flags = 0;
  std::uint32_t checksum = 0;  // CRC32C of the header with 0 here
  std::uint16_t table = 0;
  std::uint16_t entry = 0;      // rows: of the worker's key sets at the server. dense: where in a
                                // cache line values lie that come, and 64 times that of others
  std::uint32_t request = 0;    // its number
  std::uint32_t staleness = 0;  // of an answer: steps that the slowest worker is behind
  std::uint64_t step = 0;       // push: its number, from 0. pull: steps that the worker has pushed
  std::uint64_t count = 0;      // elements, or keys
  std::uint64_t bytes = 0;      // that follow
  std::uint64_t digest = 0;     // of the keys
  float rate = 0;               // learning rate of a push
  std::uint32_t patience_ms = 0;  // after which a pull is answered anyhow, as late
  std::uint64_t start = 0;  // read, write: the first element or slot. snapshot: since which update;
                            // its answer, piece, drop: the snapshot's number
  std::uint64_t updates = 0;  // read, write: that the table has had; step: of all workers

  static constexpr std::uint32_t kMagic = 0x50534c4d;  // "MLSP"
  static constexpr std::uint8_t kVersion = 1;

  // The server knows the keys: they do not follow.
  static constexpr std::uint8_t kKnownKeys = 1;
  // A snapshot of what has changed only.
  static constexpr std::uint8_t kSince = 2;
  // No piece comes after this answer, which has none.
  static constexpr std::uint8_t kEnd = 4;
  // What follows is a frame of the table's codec.
  static constexpr std::uint8_t kFrame = 8;
  // What follows the answer may be one.
  static constexpr std::uint8_t kTakesFrames = 16;
};
static_assert(sizeof(Message) == 80);

// What follows a header in the same message at most; more goes in slices.
inline constexpr std::size_t kInline = 32 * 1024;
inline constexpr std::size_t kSlice = 1 << 20;

// A piece of a snapshot: as many pairs of uint64 as its header counts, start and length of ranges
// of entries, and then the parameters of one range after the other.
inline constexpr std::size_t kMostPiece = 64 << 20;

constexpr std::size_t slices_of(std::size_t bytes) {
  return bytes <= kInline ? 0 : (bytes + kSlice - 1) / kSlice;
}

// Four kinds of messages; those of one request have its number, as far as tags can hold it.
enum class Leg : std::uint8_t { request, answer, up, down };

constexpr std::uint32_t kUnderWay = 1024;  // requests of a worker that can be told apart

constexpr Tag tag_of(Leg leg, std::uint32_t request) {
  if (leg == Leg::request) return Tag(Channel::servers, 0, 0);
  const std::uint32_t number = request % kUnderWay;
  return Tag(Channel::servers, number & 63, static_cast<std::uint64_t>(leg) | (number >> 6) << 2);
}
static_assert(tag_of(Leg::down, 1023).value != tag_of(Leg::down, 1022).value);
static_assert(tag_of(Leg::answer, 64).value != tag_of(Leg::answer, 0).value);

// Writes the header with its checksum.
void write_header(Message message, std::span<std::byte> into);

// Whether the bytes start with a sound header; then it is in `message`, and its verb is known.
bool read_header(std::span<const std::byte> bytes, Message& message);

}  // namespace mls
