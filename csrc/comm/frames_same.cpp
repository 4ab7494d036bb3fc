#include <algorithm>
#include <cstring>
#include <vector>

#include "codec/sparse.hpp"
#include "comm/cost.hpp"
#include "comm/frames.hpp"
#include "comm/ring.hpp"

namespace mls {

void FrameExchange::same_elements() {
  divide({});
  const Draw draw{key_, 0};
  const std::size_t room = codec_.bound(spec_, y_.size());
  Scratch memory(wire_.transport, room);
  const std::span<std::byte> payload =
      memory.part(0, codec_.encode(spec_, y_, draw, memory.part(0, room).data()));
  settle({payload, y_.size(), spec_.values}, {0, y_.size()}, draw);
  const std::span<std::byte> values = payload.subspan(kRandomKHeader);
  const std::size_t count = values.size() / sizeof(float);

  ring_all_reduce(wire_, values, {});
  memory_.sent +=
      ring_sent(own(), parts_of(count, size()), {count, sizeof(float), wire_.segment_bytes});
  const Payload sum{payload, y_.size(), spec_.values};
  if (feedback_ == Feedback::ef21) {
    codec_.add(sum, 1, memory_.estimate.data());
  } else {
    codec_.decode(sum, out_.data());
  }
  finish();
}

}  // namespace mls
