// All-reduce around a ring of messages.
#pragma once

#include <cstddef>
#include <span>

#include "comm/collectives.hpp"
#include "comm/story.hpp"

namespace mls {

// For at least two ranks and one element.
void ring_all_reduce(Transport& transport, std::span<std::byte> data, const AllReduce& request,
                     const Story& story);

}  // namespace mls
