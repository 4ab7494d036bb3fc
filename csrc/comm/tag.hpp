// A message tag that cannot collide: what, which collective, which step. 15 bits, the least that
// MPI promises (MPI_TAG_UB >= 32767). Messages between two ranks keep their order, so the wrapped
// fields only have to tell neighbours in time apart.
#pragma once

#include <cstdint>

namespace mls {

enum class Channel : std::uint8_t {
  agree,
  all_reduce,
  broadcast,
  all_gather,
  all_to_all,
  clocks,
  frames,
  servers
};

struct Tag {
  int value;

  constexpr Tag(Channel channel, std::uint32_t sequence, std::uint64_t step)
      : value(static_cast<int>((static_cast<std::uint32_t>(channel) << 12) |
                               ((sequence & 0x3fu) << 6) | (step & 0x3fu))) {}
};

static_assert(Tag(Channel::servers, ~0u, ~0ull).value <= 32767);
static_assert(Tag(Channel::agree, 1, 0).value != Tag(Channel::agree, 2, 0).value);

}  // namespace mls
