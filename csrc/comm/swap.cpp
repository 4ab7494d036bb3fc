#include "comm/swap.hpp"

#include <algorithm>
#include <string>

namespace mls {
namespace {

constexpr std::size_t kAhead = 4;

}  // namespace

void combine_with(bool peer_first, const Combine& how, std::span<std::byte> own,
                  std::span<const std::byte> came) {
  const std::byte* const blocks[]{peer_first ? came.data() : own.data(),
                                  peer_first ? own.data() : came.data()};
  std::byte* const into = own.data();
  reduce_blocks({.dtype = how.dtype, .op = how.op}, blocks, {&into, 1},
                came.size() / size_of(how.dtype));
}

void swap_with(const Wire& wire, std::span<std::byte> data, const Swap& swap, const Combine& how,
               std::size_t step, std::size_t steps) {
  const std::size_t element = size_of(how.dtype);
  const std::size_t longest = std::max(swap.sent.length, swap.received.length);
  if (longest == 0) return;
  const Span span(wire.transport.trace(), "exchange", static_cast<std::uint32_t>(step),
                  swap.sent.length * element);
  const std::size_t segment = std::clamp<std::size_t>(wire.segment_bytes / element, 1, longest);
  const std::size_t segments = ceil_div(longest, segment);
  const std::size_t ahead = std::min(kAhead, segments);
  Scratch scratch(wire.transport, swap.reduces ? ahead * segment * element : 0);
  Flights receives(wire.transport, ahead);
  Flights sends(wire.transport, ahead);
  const auto piece = [&](Part whole, std::size_t k) {
    const Part part = segment_of(whole, segment, k);
    return data.subspan(part.start * element, part.length * element);
  };
  const auto arrival = [&](std::size_t k) {
    const std::span<std::byte> place = piece(swap.received, k);
    return swap.reduces ? scratch.part(k % ahead * segment * element, place.size()) : place;
  };
  const auto post = [&](std::size_t k) {
    const std::span<std::byte> in = arrival(k);
    const std::span<std::byte> out = piece(swap.sent, k);
    if (!in.empty()) wire.receive(receives[k % ahead], swap.peer, k, in);
    if (!out.empty()) wire.send(sends[k % ahead], swap.peer, k, out);
  };
  wire.transport.at_step(step, steps);
  try {
    for (std::size_t k = 0; k < ahead; ++k) post(k);
    for (std::size_t k = 0; k < segments; ++k) {
      wire.wait(receives[k % ahead]);
      wire.wait(sends[k % ahead]);  // before the segment changes
      const std::span<std::byte> into = piece(swap.received, k);
      if (swap.reduces) combine_with(swap.peer < wire.rank(), how, into, arrival(k));
      if (k + ahead < segments) post(k + ahead);
    }
  } catch (const Failure& failure) {
    throw failure.during("exchange " + std::to_string(step) + " of " + std::to_string(steps));
  }
}

}  // namespace mls
