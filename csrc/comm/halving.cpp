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
#include <vector>

#include "comm/swap.hpp"
#include "comm/topology.hpp"

namespace mls {

void halving_all_reduce(const Wire& wire, std::span<std::byte> data, const Combine& how) {
  const std::size_t element = size_of(how.dtype);
  const Folded folded{wire.rank(), wire.size()};
  const Part all{0, data.size() / element};
  const Part none{0, 0};
  const int rounds = std::countr_zero(static_cast<unsigned>(folded.power()));
  const auto steps = static_cast<std::size_t>(2 * rounds + (folded.extra() > 0 ? 3 : 0));
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
  {
    const Span span(wire.transport.trace(), "reduce-scatter");
    for (int round = 0; round < rounds; ++round) {
      const Part own = half_of(kept.back(), folded.side(round));
      exchange(folded.peer(round), half_of(kept.back(), 1 - folded.side(round)), own, true);
      kept.push_back(own);
    }
  }
  if (how.divisor > 1) {
    divide(how.dtype, data.data() + kept.back().start * element, kept.back().length, how.divisor);
  }
  halving_all_gather(wire, data, how, kept, step, steps);
  if (folded.paired()) {
    swap_with(wire, data, {folded.partner(), all, none, false}, how, steps, steps);
  }
}

void halving_all_gather(const Wire& wire, std::span<std::byte> data, const Combine& how,
                        std::span<const Part> kept, std::size_t step, std::size_t steps) {
  const Span span(wire.transport.trace(), "all-gather");
  const Folded folded{wire.rank(), wire.size()};
  for (std::size_t round = kept.size() - 1; round-- > 0;) {
    const auto bit = static_cast<int>(round);
    const Part others = half_of(kept[round], 1 - folded.side(bit));
    swap_with(wire, data, {folded.peer(bit), kept[round + 1], others, false}, how, ++step, steps);
  }
}

}  // namespace mls
