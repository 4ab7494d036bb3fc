// Every rank learns whether all ranks are about to do the same thing, by messages.
//
// Recursive doubling of a header: in round k, ranks whose numbers differ in bit k tell each other
// what they know of all; ranks beyond the largest power of two tell their partner before, and are
// told the outcome. Also serves as the barrier.
//
// An all-reduce by doubling or halving takes the same ways, so that its data goes along, behind the
// headers. A rank sends some only while all that it knows of is alike, and uses what comes only if
// all still is. Whatever ranks do, each sends and receives the same number of messages, and none is
// longer than its receive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/reduce.hpp"
#include "comm/choice.hpp"
#include "comm/intent.hpp"
#include "comm/wire.hpp"

namespace mls {

// Throws the same Failure on every rank when intents or numbers differ or a rank has a fault;
// Failure(timeout) when a rank does not come.
void agree(Transport& transport, const Intent& intent, std::uint32_t sequence, Deadline deadline);

// The agreement and an all-reduce among all ranks in one, where it goes_along. The data is as it
// was after a Failure that is the same on every rank.
void agree_and_reduce(const Wire& wire, std::span<std::byte> data, const Combine& how,
                      const Intent& intent, Algorithm algorithm);

}  // namespace mls
