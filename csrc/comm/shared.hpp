// All-reduce inside one machine, through memory that its ranks share.
#pragma once

#include <cstddef>
#include <span>

#include "comm/board.hpp"
#include "comm/collectives.hpp"
#include "comm/story.hpp"

namespace mls {

// Compares what the ranks are about to do, and does it if all arrays are small, or lie at the same
// place of one window; else returns false, on all ranks alike.
bool shared_all_reduce(Board& board, Transport& transport, std::span<std::byte> data,
                       const AllReduce& request, const Intent& intent, const Story& story);

}  // namespace mls
