#include "comm/frames.hpp"

#include <algorithm>
#include <string>

#include "codec/random.hpp"
#include "codec/sparse.hpp"
#include "comm/division.hpp"

namespace mls {
namespace {

// Elements that are encoded and settled while they are in the cache.
constexpr std::size_t kPiece = 16 * 1024;

}  // namespace

std::size_t frame_segment(const Spec& spec, std::span<const Part> parts,
                          std::size_t segment_bytes) {
  const std::size_t room = segment_bytes - std::min(segment_bytes, sizeof(FrameHeader));
  return ring_segment(parts, room, codec_of(spec.codec).bound(spec, 1));
}

FrameExchange::FrameExchange(const Wire& wire, const Spec& spec, Compressor& memory,
                             std::uint64_t key, std::span<float> y, std::span<float> out,
                             bool measure)
    : wire_(wire),
      spec_(spec),
      codec_(codec_of(spec.codec)),
      memory_(memory),
      key_(key),
      y_(y),
      out_(out),
      feedback_(memory.how().feedback),
      measure_(measure) {
  if (feedback_ == Feedback::ef21 && memory_.estimate.size() != y.size()) {
    memory_.estimate.assign(y.size(), 0);
  }
}

void FrameExchange::settle(const Payload& payload, Part part, Draw draw) {
  if (feedback_ == Feedback::none) return;
  if (feedback_ == Feedback::classic || measure_) codec_.add(payload, -1, y_.data() + part.start);
  if (feedback_ == Feedback::ef21) codec_.add(payload, 1, memory_.residual.data() + part.start);
  if (feedback_ == Feedback::classic && codec_.sparse && !memory_.velocity.empty()) {
    mask_velocity(payload, part, draw);
  }
}

void FrameExchange::mask_velocity(const Payload& payload, Part part, Draw draw) {
  std::vector<std::uint32_t> indices(sparse_count(payload));
  std::vector<float> values(indices.size());
  if (codec_.id == CodecId::random_k) {
    draw_indices(random_k_key(draw), indices.size(), payload.count, indices.data());
  } else {
    read_sparse(payload, indices.data(), values.data());
  }
  for (const std::uint32_t index : indices) memory_.velocity[part.start + index] = 0;
}

std::size_t FrameExchange::encode(Part part, std::span<std::byte> frame) {
  const Span span(wire_.transport.trace(), "encode");
  const std::uint64_t key = key_of(key_, own() + 1);
  std::byte* const payload = frame.data() + sizeof(FrameHeader);
  // without a cut, all of it is one piece
  const std::size_t piece =
      codec_.granule ? ceil_div(kPiece, codec_.granule) * codec_.granule : part.length;
  std::size_t length = 0;
  for (std::size_t start = 0; start < part.length; start += piece) {
    const Part now{part.start + start, std::min(piece, part.length - start)};
    const Draw draw{key, now.start};
    const std::size_t bytes =
        codec_.encode(spec_, y_.subspan(now.start, now.length), draw, payload + length);
    settle({{payload + length, bytes}, now.length, spec_.values}, now, draw);
    length += bytes;
  }
  if (part.length == 0) length = codec_.encode(spec_, {}, {key, part.start}, payload);
  return seal_frame(spec_, part.length, length, frame);
}

std::size_t FrameExchange::encode_owned(std::span<float> sum, std::span<const float> told,
                                        std::span<std::byte> frame) {
  const Span span(wire_.transport.trace(), "encode");
  const Draw draw{key_of(key_, size() + own() + 1), 0};
  if (feedback_ == Feedback::ef21) {
    std::vector<float> difference(sum.size());
    for (std::size_t i = 0; i < sum.size(); ++i) difference[i] = sum[i] - told[i];
    return encode_frame(spec_, difference, draw, frame);
  }
  const std::size_t bytes = encode_frame(spec_, sum, draw, frame);
  if (feedback_ == Feedback::classic) {
    const std::size_t header = sizeof(FrameHeader);
    codec_.add({frame.subspan(header, bytes - header), sum.size(), spec_.values}, -1, sum.data());
  }
  return bytes;
}

Frame FrameExchange::open(std::span<const std::byte> bytes, std::size_t count,
                          std::size_t peer) const {
  try {
    return open_frame(bytes, spec_, count);
  } catch (const Failure& failure) {
    const int rank = wire_.group.rank_of(static_cast<int>(peer));
    throw failure.during("from rank " + std::to_string(rank));
  }
}

void FrameExchange::deliver(const Frame& frame, Part part, bool first) {
  const Span span(wire_.transport.trace(), "decode");
  if (feedback_ == Feedback::ef21) {
    frame.codec.add(frame.payload, 1, memory_.estimate.data() + part.start);
  } else if (first) {
    frame.codec.decode(frame.payload, out_.data() + part.start);
  } else {
    frame.codec.add(frame.payload, 1, out_.data() + part.start);
  }
}

void FrameExchange::finish() {
  if (feedback_ == Feedback::ef21) std::ranges::copy(memory_.estimate, out_.begin());
}

void FrameExchange::send(Request& request, std::size_t peer, std::uint64_t step,
                         std::span<std::byte> bytes) {
  memory_.sent += {1, bytes.size()};
  wire_.send(request, static_cast<int>(peer), step, bytes);
}

void FrameExchange::receive(Request& request, std::size_t peer, std::uint64_t step,
                            std::span<std::byte> bytes) {
  wire_.receive(request, static_cast<int>(peer), step, bytes);
  request.shorter = true;
}

void FrameExchange::gather() {
  divide({});
  const Part all{0, y_.size()};
  const std::size_t room = frame_bound(spec_, all.length);
  Scratch memory(wire_.transport, size() * room);
  Flights receives(wire_.transport, size());
  Flights sends(wire_.transport, size());
  for (std::size_t step = 1; step < size(); ++step) {
    const std::size_t from = (own() + size() - step) % size();
    receive(receives[from], from, 0, memory.part(from * room, room));
  }
  const std::span<std::byte> mine = memory.part(own() * room, room);
  const std::size_t bytes = encode(all, mine);
  for (std::size_t step = 1; step < size(); ++step) {
    const std::size_t to = (own() + step) % size();
    send(sends[to], to, 0, mine.first(bytes));
  }
  for (std::size_t peer = 0; peer < size(); ++peer) {
    wire_.transport.at_step(peer + 1, size());
    wire_.wait(receives[peer]);
    const std::size_t length = peer == own() ? bytes : receives[peer].arrived;
    deliver(open(memory.part(peer * room, length), all.length, peer), all, peer == 0);
  }
  for (std::size_t peer = 0; peer < size(); ++peer) wire_.wait(sends[peer]);
  finish();
}

void FrameExchange::owners() {
  const std::size_t granule = std::max<std::size_t>(codec_.granule, 1);
  const std::vector<Part> parts = parts_of_granules(y_.size(), granule, size());
  divide({Pattern::owners, granule});
  const Part mine = parts[own()];
  // a frame of fewer indices may be longer
  const std::size_t room =
      std::max(frame_bound(spec_, parts.front().length), frame_bound(spec_, parts.back().length));
  Scratch memory(wire_.transport, 2 * size() * room);
  const auto arrival = [&](std::size_t peer) { return memory.part(peer * room, room); };
  const auto departure = [&](std::size_t peer) {
    return memory.part((size() + peer) * room, room);
  };
  Flights receives(wire_.transport, size());
  Flights sends(wire_.transport, size());

  std::size_t own_bytes = 0;
  for (std::size_t step = 1; step < size(); ++step) {
    const std::size_t from = (own() + size() - step) % size();
    receive(receives[from], from, 0, arrival(from));
  }
  for (std::size_t step = 1; step <= size(); ++step) {
    const std::size_t to = (own() + step) % size();
    const std::size_t bytes = encode(parts[to], departure(to));
    if (to == own()) {
      own_bytes = bytes;
    } else {
      send(sends[to], to, 0, departure(to).first(bytes));
    }
  }

  // without feedback nothing is owned beyond this step
  std::vector<float> passing(feedback_ == Feedback::none ? mine.length : 0);
  std::vector<float>& sum = feedback_ == Feedback::none ? passing : memory_.owned;
  for (std::size_t peer = 0; peer < size(); ++peer) {
    wire_.transport.at_step(peer + 1, 2 * size());
    wire_.wait(receives[peer]);
    const std::span<std::byte> bytes = peer == own() ? departure(peer).first(own_bytes)
                                                     : arrival(peer).first(receives[peer].arrived);
    const Frame frame = open(bytes, mine.length, peer);
    frame.codec.add(frame.payload, 1, sum.data());
  }
  for (std::size_t peer = 0; peer < size(); ++peer) wire_.wait(sends[peer]);

  for (std::size_t step = 1; step < size(); ++step) {
    const std::size_t from = (own() + size() - step) % size();
    receive(receives[from], from, 1, arrival(from));
  }
  std::span<const float> told = memory_.estimate;
  if (!told.empty()) told = told.subspan(mine.start, mine.length);
  own_bytes = encode_owned(sum, told, departure(own()));
  for (std::size_t step = 1; step < size(); ++step) {
    const std::size_t to = (own() + step) % size();
    send(sends[to], to, 1, departure(own()).first(own_bytes));
  }
  for (std::size_t peer = 0; peer < size(); ++peer) {
    wire_.transport.at_step(size() + peer + 1, 2 * size());
    wire_.wait(receives[peer]);
    const std::span<std::byte> bytes = peer == own() ? departure(peer).first(own_bytes)
                                                     : arrival(peer).first(receives[peer].arrived);
    deliver(open(bytes, parts[peer].length, peer), parts[peer], true);
  }
  for (std::size_t peer = 0; peer < size(); ++peer) wire_.wait(sends[peer]);
  finish();
}

}  // namespace mls
