// The ring of Patarasuk and Yuan (ring.cpp) with frames: what is sent on was decoded, added to and
// encoded again, by one rank per step, which keeps the error. The owner's frames go round as they
// are, so that all ranks decode the same bytes.
#include <algorithm>
#include <vector>

#include "comm/frames.hpp"

namespace mls {

void FrameExchange::ring() {
  divide({});
  const Ring ring{wire_.rank(), wire_.size()};
  const auto left = static_cast<std::size_t>(ring.left());
  const auto right = static_cast<std::size_t>(ring.right());
  const std::vector<Part> parts = parts_of(y_.size(), size());
  const std::size_t segment = frame_segment(spec_, parts, wire_.segment_bytes);
  const std::size_t segments = ceil_div(parts[0].length, segment);
  const std::size_t room = frame_bound(spec_, segment);
  Scratch memory(wire_.transport, 2 * segments * room);
  // Frames arrive in one half, and leave in the next step from there; or they are encoded there.
  const auto place = [&](std::size_t step, std::size_t k) {
    return memory.part((step % 2 * segments + k) * room, room);
  };
  std::vector<std::span<std::byte>> frames(segments);
  Flights receives(wire_.transport, segments);
  Flights sends(wire_.transport, segments);
  const std::size_t halfway = size() - 1;

  for (std::size_t step = 0; step < 2 * halfway; ++step) {
    wire_.transport.at_step(step + 1, 2 * halfway);
    const Part sent = parts[ring.sent_chunk(step)];
    const Part received = parts[ring.received_chunk(step)];
    for (std::size_t k = 0; k < segments; ++k) {
      if (segment_of(received, segment, k).length > 0) {
        receive(receives[k], left, step * segments + k, place(step, k));
      }
    }
    for (std::size_t k = 0; k < segments; ++k) {
      const Part part = segment_of(sent, segment, k);
      if (part.length == 0) continue;
      if (step <= halfway) {
        frames[k] = place(step + 1, k);
        frames[k] = frames[k].first(encode(part, frames[k]));
        if (step == halfway) deliver(open(frames[k], part.length, own()), part, true);
      }
      send(sends[k], right, step * segments + k, frames[k]);
    }
    for (std::size_t k = 0; k < segments; ++k) {
      const Part part = segment_of(received, segment, k);
      wire_.wait(receives[k]);
      wire_.wait(sends[k]);
      if (part.length == 0) continue;
      frames[k] = place(step, k).first(receives[k].arrived);
      const Frame frame = open(frames[k], part.length, left);
      if (step < halfway) {
        frame.codec.add(frame.payload, 1, y_.data() + part.start);
      } else {
        deliver(frame, part, true);
      }
    }
  }
}

}  // namespace mls
