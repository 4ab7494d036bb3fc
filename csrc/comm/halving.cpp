// Rabenseifner 2004, "Optimization of collective reduction operations".
//
//   reduce-scatter  in round k, ranks whose numbers differ in bit k share the range that both work
//                   on: each sends the half that it gives up, and adds the half that it keeps
//   all-gather      the same rounds backwards: each sends all that it has whole
//
// Of ranks beyond the largest power of two, the two of a pair first reduce a half each, and the
// lower one then hands its half over; it is told the result at the end. Partial sums are those of
// Order::tree.
#include "comm/halving.hpp"

#include <bit>
#include <optional>
#include <vector>

#include "comm/swap.hpp"
#include "comm/topology.hpp"

namespace mls {
namespace {

Part half_of(Part whole, std::size_t index) {
  const Part half = part_of(whole.length, 2, index);
  return {whole.start + half.start, half.length};
}

}  // namespace

void halving_all_reduce(const Wire& wire, std::span<std::byte> data, const Combine& how) {
  const std::size_t element = size_of(how.dtype);
  const Folded folded{wire.rank(), wire.size()};
  const Part all{0, data.size() / element};
  const Part none{0, 0};
  const auto rounds =
      static_cast<std::size_t>(std::countr_zero(static_cast<unsigned>(folded.power())));
  const std::size_t steps = 2 * rounds + (folded.extra() > 0 ? 3 : 0);
  std::size_t step = 0;
  const auto exchange = [&](int peer, Part sent, Part received, bool reduces) {
    swap_with(wire, data, {peer, sent, received, reduces}, how, ++step, steps);
  };
  const Part first = half_of(all, 0);
  const Part second = half_of(all, 1);
  if (folded.leaves()) {
    exchange(folded.partner(), second, first, true);
    exchange(folded.partner(), first, none, false);
    step = steps - 1;
    exchange(folded.partner(), none, all, false);
    return;
  }
  if (folded.paired()) {
    exchange(folded.partner(), first, second, true);
    exchange(folded.partner(), none, first, false);
  } else if (folded.extra() > 0) {
    step = 2;
  }
  std::vector<Part> kept{all};
  std::optional<Span> phase(std::in_place, wire.transport.trace(), "reduce-scatter");
  for (std::size_t round = 0; round < rounds; ++round) {
    const std::size_t side = static_cast<std::size_t>(folded.number()) >> round & 1;
    const int peer = folded.rank_of(folded.number() ^ (1 << round));
    const Part own = half_of(kept.back(), side);
    exchange(peer, half_of(kept.back(), 1 - side), own, true);
    kept.push_back(own);
  }
  if (how.divisor > 1) {
    divide(how.dtype, data.data() + kept.back().start * element, kept.back().length, how.divisor);
  }
  phase.emplace(wire.transport.trace(), "all-gather");
  for (std::size_t round = rounds; round-- > 0;) {
    const std::size_t side = static_cast<std::size_t>(folded.number()) >> round & 1;
    const int peer = folded.rank_of(folded.number() ^ (1 << round));
    exchange(peer, kept[round + 1], half_of(kept[round], 1 - side), false);
  }
  if (folded.paired()) exchange(folded.partner(), all, none, false);
}

}  // namespace mls
