// The start of an operation: all ranks learn whether all are about to do the same.
#pragma once

#include <cstddef>
#include <span>

#include "comm/collectives.hpp"
#include "comm/intent.hpp"
#include "comm/story.hpp"
#include "comm/window.hpp"

namespace mls {

// Whether all ranks of the transport meet at its board.
bool meets(const Transport& transport);

// Lays a small array, or the place of a large one, on the board of this node. All mates do.
void announce(Transport& transport, const Intent& intent, const Story& story, const Place& place,
              std::span<const std::byte> small = {});

// Ranks that meet at a board compare there. Others agree by messages, or without a check say by
// themselves that they cannot take part.
void prepare(Transport& transport, const Intent& intent, const Options& options, const Story& story,
             const Place& place = {}, std::span<const std::byte> small = {});

}  // namespace mls
