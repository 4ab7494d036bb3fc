// What an all-reduce by messages costs, as integer arithmetic: the messages and bytes that each
// rank sends, and the messages that follow one another. docs/algorithms.md has the formulas;
// tests/sim counts the same in a simulated network, exactly.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "comm/choice.hpp"
#include "comm/topology.hpp"

namespace mls {

struct Sent {
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;

  constexpr Sent& operator+=(const Sent& other) {
    messages += other.messages;
    bytes += other.bytes;
    return *this;
  }
  bool operator==(const Sent&) const = default;
};

// Of what ranks compare before they do it, and the most that goes along in one message: together
// just below what Open MPI sends over TCP without asking first.
constexpr std::size_t kHeaderBytes = 136;
constexpr std::size_t kMostAlong = 64 * 1024 - 256 - kHeaderBytes;

// Elements of an array, their bytes, and the bytes of the longest message.
struct Extent {
  std::size_t count;
  std::size_t element;
  std::size_t segment_bytes;

  // A range that one rank sends to another, by segments.
  constexpr Sent range(std::size_t length) const {
    const std::size_t segment = std::max<std::size_t>(segment_bytes / element, 1);
    return {ceil_div(length, segment), length * element};
  }
};

// Once around a ring: every part but one passes through every rank. The reduce-scatter leaves out
// the own part, the all-gather the one behind it.
constexpr Sent ring_pass_sent(std::span<const Part> parts, std::size_t left_out, Extent extent) {
  extent.segment_bytes = ring_segment(parts, extent.segment_bytes, extent.element) * extent.element;
  Sent sent;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    if (part != left_out) sent += extent.range(parts[part].length);
  }
  return sent;
}

constexpr Sent ring_sent(std::size_t rank, std::span<const Part> parts, const Extent& extent) {
  Sent sent = ring_pass_sent(parts, rank, extent);
  sent += ring_pass_sent(parts, (rank + 1) % parts.size(), extent);
  return sent;
}

constexpr int log2_of(int power) { return std::countr_zero(static_cast<unsigned>(power)); }

constexpr Sent doubling_sent(const Folded& folded, const Extent& extent) {
  const int times = folded.leaves() ? 1 : log2_of(folded.power()) + (folded.paired() ? 1 : 0);
  Sent sent;
  for (int time = 0; time < times; ++time) sent += extent.range(extent.count);
  return sent;
}

// In each round a rank gives up one half of what it works on, and on the way back sends the other.
constexpr Sent halving_sent(const Folded& folded, const Extent& extent) {
  const auto halves = [&](std::size_t length) {
    Sent sent = extent.range(part_of(length, 2, 0).length);
    sent += extent.range(part_of(length, 2, 1).length);
    return sent;
  };
  if (folded.leaves()) return halves(extent.count);
  Sent sent;
  if (folded.paired()) {
    sent += extent.range(part_of(extent.count, 2, 0).length);
    sent += extent.range(extent.count);
  }
  std::size_t kept = extent.count;
  for (int round = 0; round < log2_of(folded.power()); ++round) {
    sent += halves(kept);
    kept = part_of(kept, 2, static_cast<std::size_t>(folded.number()) >> round & 1).length;
  }
  return sent;
}

// Whether an all-reduce makes the agreement on its way: one message carries all that a rank sends
// to another in a round.
constexpr bool goes_along(Algorithm algorithm, const Folded& folded, const Extent& extent) {
  const bool halves = algorithm == Algorithm::halving && folded.extra() == 0;
  const std::size_t longest = halves ? part_of(extent.count, 2, 0).length : extent.count;
  return (algorithm == Algorithm::doubling || algorithm == Algorithm::halving) &&
         longest * extent.element <= kMostAlong;
}

// Where it does: a message with a header before, in every round and after, with the ranges behind
// it. What halving gathers has no headers. Of an empty array it is the agreement alone.
constexpr Sent agreed_sent(Algorithm algorithm, const Folded& folded, const Extent& extent) {
  Sent sent;
  const auto message = [&](std::size_t length) {
    sent += {1, kHeaderBytes + length * extent.element};
  };
  if (folded.paired()) message(extent.count);
  if (folded.leaves()) return sent;
  Part kept{0, extent.count};
  for (int round = 0; round < log2_of(folded.power()); ++round) {
    if (algorithm == Algorithm::halving) {
      message(half_of(kept, 1 - folded.side(round)).length);
      kept = half_of(kept, folded.side(round));
      sent += extent.range(kept.length);
    } else {
      message(extent.count);
    }
  }
  return sent;
}

// A rank among the ranks of its node, and the nodes; nodes are numbered without gaps.
struct Seat {
  std::size_t place = 0;
  std::size_t mates = 0;
  std::size_t node = 0;
  std::size_t nodes = 0;
  std::size_t slices = 0;  // the ranks of the smallest node

  static constexpr Seat of(std::size_t rank, std::span<const int> nodes) {
    std::vector<std::size_t> members(static_cast<std::size_t>(std::ranges::max(nodes)) + 1);
    std::size_t place = 0;
    for (std::size_t other = 0; other < nodes.size(); ++other) {
      if (other < rank && nodes[other] == nodes[rank]) ++place;
      ++members[static_cast<std::size_t>(nodes[other])];
    }
    const auto node = static_cast<std::size_t>(nodes[rank]);
    return {place, members[node], node, members.size(), std::ranges::min(members)};
  }
};

// Nodes without memory of their own: both passes around a ring in the node, and in between what the
// own slice costs between the nodes; the slice of the last ranks of a larger node is empty.
constexpr Sent hierarchical_sent(const Seat& seat, const Extent& extent) {
  std::vector<Part> slices = parts_of(extent.count, seat.slices);
  slices.resize(seat.mates, {extent.count, 0});
  Sent sent = ring_sent(seat.place, slices, extent);
  const Extent slice{slices[seat.place].length, extent.element, extent.segment_bytes};
  if (between_nodes(slice.count * slice.element, seat.nodes) == Algorithm::ring) {
    sent += ring_sent(seat.node, parts_of(slice.count, seat.nodes), slice);
  } else {
    sent += halving_sent({static_cast<int>(seat.node), static_cast<int>(seat.nodes)}, slice);
  }
  return sent;
}

// By one rank of nodes.size(), for ring, doubling, halving and hierarchical.
constexpr Sent sent_by(Algorithm algorithm, int rank, std::span<const int> nodes,
                       const Extent& extent) {
  const auto index = static_cast<std::size_t>(rank);
  const Folded folded{rank, static_cast<int>(nodes.size())};
  switch (algorithm) {
    case Algorithm::doubling:
      return doubling_sent(folded, extent);
    case Algorithm::halving:
      return halving_sent(folded, extent);
    case Algorithm::hierarchical:
      return hierarchical_sent(Seat::of(index, nodes), extent);
    default:
      return ring_sent(index, parts_of(extent.count, nodes.size()), extent);
  }
}

// Messages that follow one another, each of one segment.
constexpr std::uint64_t ring_rounds(std::size_t size) { return 2 * (size - 1); }
// While no more than half of the numbers stand for pairs, the message that a pair waits for in the
// last round was sent by a rank that had no pair to wait for, and is there already.
constexpr std::uint64_t doubling_rounds(int size) {
  const Folded folded{0, size};
  const int before_and_after = (folded.extra() > 0 ? 1 : 0) + (2 * folded.extra() > folded.power());
  return static_cast<std::uint64_t>(log2_of(folded.power()) + before_and_after);
}
constexpr std::uint64_t halving_rounds(int size) {
  const Folded folded{0, size};
  return static_cast<std::uint64_t>(2 * log2_of(folded.power()) + (folded.extra() > 0 ? 3 : 0));
}

// Hockney 1994: a message of n bytes takes latency + n * per_byte. Exact where all messages of a
// round are of equal length and none waits for another's link.
constexpr std::uint64_t time_of(std::uint64_t rounds, std::uint64_t bytes, std::uint64_t latency,
                                std::uint64_t per_byte) {
  return rounds * latency + bytes * per_byte;
}

static_assert(ring_sent(0, parts_of(8, 4), {8, 4, 1024}) == Sent{6, 48});
static_assert(doubling_sent({0, 4}, {8, 4, 16}) == Sent{4, 64});
static_assert(halving_sent({0, 4}, {8, 4, 1024}) == Sent{4, 48});
static_assert(ring_rounds(4) == 6 && doubling_rounds(4) == 2 && halving_rounds(4) == 4);
static_assert(doubling_rounds(6) == 3 && doubling_rounds(7) == 4 && halving_rounds(6) == 7);

}  // namespace mls
