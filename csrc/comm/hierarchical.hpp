// All-reduce of several nodes: inside each node, between nodes, inside each node.
#pragma once

#include <cstddef>
#include <span>

#include "comm/collectives.hpp"
#include "comm/story.hpp"

namespace mls {

void hierarchical_all_reduce(Transport& transport, std::span<std::byte> data, const Combine& how,
                             const Intent& intent, const Story& story, std::size_t segment_bytes);

}  // namespace mls
