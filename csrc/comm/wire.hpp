// What the messages of one collective have in common.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "comm/tag.hpp"
#include "comm/topology.hpp"
#include "comm/transport.hpp"

namespace mls {

struct Wire {
  Transport& transport;
  const Group& group;  // peers are named by their place in it
  Channel channel;
  std::uint32_t sequence;
  Deadline deadline;
  std::size_t segment_bytes;

  int rank() const { return group.index; }
  int size() const { return group.size(); }

  void send(Request& request, int peer, std::uint64_t step,
            std::span<const std::byte> bytes) const {
    transport.send(request, group.rank_of(peer), Tag(channel, sequence, step), bytes);
  }
  void receive(Request& request, int peer, std::uint64_t step, std::span<std::byte> bytes) const {
    transport.receive(request, group.rank_of(peer), Tag(channel, sequence, step), bytes);
  }
  void wait(Request& request) const { transport.wait(request, deadline); }
};

}  // namespace mls
