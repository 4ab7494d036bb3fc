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

// `step` tells neighbouring exchanges with the same peer apart in reports.
void swap_with(const Wire& wire, std::span<std::byte> data, const Swap& swap, const Combine& how,
               std::size_t step, std::size_t steps);

}  // namespace mls
