// One exchange of ranges of an array with one peer, by segments: what arrives replaces or is
// reduced into the data while the next segments are under way.
#pragma once

#include <cstddef>
#include <span>

#include "base/reduce.hpp"
#include "comm/topology.hpp"
#include "comm/wire.hpp"

namespace mls {

struct Swap {
  int peer;       // place in the group
  Part sent;      // elements; may be empty
  Part received;  // elements; may be empty, may be `sent`
  bool reduces;   // what arrives is combined, else it replaces
};

// Combines what came from a peer into the own range, in the order of the two, so that both get the
// same bits: of two zeros or NaNs the order decides.
void combine_with(bool peer_first, const Combine& how, std::span<std::byte> own,
                  std::span<const std::byte> came);

// `step` tells neighbouring exchanges with the same peer apart in reports.
void swap_with(const Wire& wire, std::span<std::byte> data, const Swap& swap, const Combine& how,
               std::size_t step, std::size_t steps);

}  // namespace mls
