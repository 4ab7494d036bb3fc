// All-reduce of several nodes: inside each node, between nodes, inside each node.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "comm/collectives.hpp"
#include "comm/story.hpp"
#include "comm/wire.hpp"

namespace mls {

// An all-reduce of a slice by the ranks that have the same place in their nodes.
using BetweenNodes = std::function<void(const Wire& outer, std::span<std::byte> slice)>;

// Reduces inside each node, runs the exchange on slices between the nodes, and spreads the result
// inside each node.
void in_levels(Transport& transport, std::span<std::byte> data, const Combine& inside,
               const Intent& intent, const Story& story, std::size_t segment_bytes,
               const BetweenNodes& exchange);

void hierarchical_all_reduce(Transport& transport, std::span<std::byte> data, const Combine& how,
                             const Intent& intent, const Story& story, std::size_t segment_bytes);

}  // namespace mls
