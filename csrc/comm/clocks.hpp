// How far the clocks of the ranks are apart: messages to and fro (Cristian 1989, "Probabilistic
// clock synchronization").
#pragma once

#include <cstdint>
#include <vector>

#include "comm/collectives.hpp"
#include "comm/transport.hpp"

namespace mls {

// Times of the steady clocks, in nanoseconds.
struct Echo {
  std::int64_t sent;      // by this rank's clock
  std::int64_t answered;  // by rank 0's
  std::int64_t received;  // by this rank's
};

// What this rank heard from rank 0 in so many turns; nothing on rank 0. Collective. One rank after
// the other, so that no answer waits behind another rank's.
std::vector<Echo> exchange_clocks(Transport& transport, int turns, const Options& options);

}  // namespace mls
