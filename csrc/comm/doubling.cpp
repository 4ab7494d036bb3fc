// Recursive doubling: Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication
// operations in MPICH".
//
// In round k, ranks whose numbers differ in bit k exchange all they have, and both add. Ranks
// beyond the largest power of two hand their data over before, and are told the result afterwards.
// Partial sums are those of Order::tree, and both sides of a pair compute the same bits.
#include "comm/doubling.hpp"

#include <bit>

#include "comm/swap.hpp"
#include "comm/topology.hpp"

namespace mls {

void doubling_all_reduce(const Wire& wire, std::span<std::byte> data, const Combine& how) {
  const Folded folded{wire.rank(), wire.size()};
  const std::size_t count = data.size() / size_of(how.dtype);
  const Part all{0, count};
  const Part none{0, 0};
  const int rounds = std::countr_zero(static_cast<unsigned>(folded.power()));
  const auto steps = static_cast<std::size_t>(rounds + (folded.extra() > 0 ? 2 : 0));
  std::size_t step = 0;
  if (folded.leaves()) {
    swap_with(wire, data, {folded.partner(), all, none, false}, how, 1, steps);
    swap_with(wire, data, {folded.partner(), none, all, false}, how, steps, steps);
    return;
  }
  if (folded.extra() > 0) ++step;
  if (folded.paired()) swap_with(wire, data, {folded.partner(), none, all, true}, how, 1, steps);
  for (int round = 0; round < rounds; ++round) {
    swap_with(wire, data, {folded.peer(round), all, all, true}, how, ++step, steps);
  }
  if (how.divisor > 1) divide(how.dtype, data.data(), count, how.divisor);
  if (folded.paired()) {
    swap_with(wire, data, {folded.partner(), all, none, false}, how, steps, steps);
  }
}

}  // namespace mls
