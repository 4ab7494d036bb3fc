// Pipelined ring: Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of
// workstations".
//
// The data is cut into one chunk per rank, chunks into segments. An item is one segment in one
// step:
//
//   reduce-scatter  item received:  chunk[rank - 2 - step] += message
//                   item sent:      chunk[rank - 1 - step], which item - segments has reduced
//   all-gather      the same steps onward; received segments replace. The owner of a chunk has it
//                   whole in the last step of the first half, and divides it once for an average
//
// Sends and receives run `ahead` items in front of the reduction. Because `ahead` is at most the
// number of segments of a chunk, item p + ahead is always ready to be sent once item p is reduced;
// because the send of item p is waited for before item p + ahead is posted, a segment is never
// received into while it is still being sent; and because every rank posts receive p + ahead as
// soon as it has finished item p, the rank that is furthest behind can always go on.
#include "comm/ring.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace mls {
namespace {

// Steps of the whole algorithm that are taken.
struct Steps {
  std::size_t first;
  std::size_t count;
};

std::size_t longest_of(std::span<const Part> parts) {
  return std::ranges::max(parts, {}, &Part::length).length;
}

class RingPass {
 public:
  RingPass(const Wire& wire, std::span<std::byte> data, std::span<const Part> parts,
           std::size_t element, const Combine* how, Steps steps)
      : wire_(wire),
        ring_{wire.rank(), wire.size()},
        data_(data),
        parts_(parts),
        element_(element),
        how_(how),
        steps_(steps),
        halfway_(static_cast<std::size_t>(ring_.size) - 1),
        segment_(ring_segment(parts, wire.segment_bytes, element)),
        segments_(std::max<std::size_t>(1, ceil_div(longest_of(parts), segment_))),
        ahead_(std::min(kRingAhead, segments_)),
        scratch_(wire.transport, ahead_ * segment_ * element_),
        receives_(wire.transport, ahead_),
        sends_(wire.transport, ahead_) {}

  void run() {
    const std::size_t reducing = std::min(halfway_ - steps_.first, steps_.count) * segments_;
    for (std::size_t item = 0; item < std::min(ahead_, items()); ++item) post(item);
    if (reducing > 0) phase("reduce-scatter", 0, reducing);
    if (reducing < items()) phase("all-gather", reducing, items());
  }

 private:
  void phase(const char* name, std::size_t first, std::size_t end) {
    const Span span(wire_.transport.trace(), name);
    for (std::size_t item = first; item < end; ++item) {
      wire_.transport.at_step(item / segments_ + 1, steps_.count);
      try {
        wire_.wait(receives_[item % ahead_]);
        digest(item);
        wire_.wait(sends_[item % ahead_]);
        if (item + ahead_ < items()) post(item + ahead_);
      } catch (const Failure& failure) {
        throw failure.during(place_of(item));
      }
    }
  }

  std::string place_of(std::size_t item) const {
    return "ring step " + std::to_string(item / segments_ + 1) + " of " +
           std::to_string(steps_.count) + ", segment " + std::to_string(item % segments_ + 1) +
           " of " + std::to_string(segments_);
  }

  std::size_t items() const { return steps_.count * segments_; }
  std::size_t step(std::size_t item) const { return steps_.first + item / segments_; }
  bool reduces(std::size_t item) const { return step(item) < halfway_; }

  std::span<std::byte> segment(std::size_t chunk, std::size_t item) const {
    const Part part = segment_of(parts_[chunk], segment_, item % segments_);
    return data_.subspan(part.start * element_, part.length * element_);
  }

  std::span<std::byte> sent(std::size_t item) const {
    return segment(ring_.sent_chunk(step(item)), item);
  }

  std::span<std::byte> received(std::size_t item) const {
    return segment(ring_.received_chunk(step(item)), item);
  }

  // Where the message of an item arrives: what is to be reduced, beside the data.
  std::span<std::byte> arrival(std::size_t item) {
    const std::span<std::byte> place = received(item);
    if (!reduces(item)) return place;
    return scratch_.part(item % ahead_ * segment_ * element_, place.size());
  }

  // Nothing is sent where a part has fewer segments than the longest.
  void post(std::size_t item) {
    const std::span<std::byte> out = sent(item);
    const std::span<std::byte> in = arrival(item);
    if (!in.empty()) wire_.receive(receives_[item % ahead_], ring_.left(), item, in);
    if (!out.empty()) wire_.send(sends_[item % ahead_], ring_.right(), item, out);
  }

  void digest(std::size_t item) {
    if (!reduces(item)) return;
    const std::span<std::byte> into = received(item);
    const std::size_t length = into.size() / element_;
    reduce(how_->op, how_->dtype, into.data(), arrival(item).data(), length);
    if (how_->divisor > 1 && step(item) + 1 == halfway_) {
      divide(how_->dtype, into.data(), length, how_->divisor);
    }
  }

  const Wire& wire_;
  const Ring ring_;
  const std::span<std::byte> data_;
  const std::span<const Part> parts_;
  const std::size_t element_;
  const Combine* const how_;
  const Steps steps_;
  const std::size_t halfway_;   // the step that copies first
  const std::size_t segment_;   // elements
  const std::size_t segments_;  // of a chunk
  const std::size_t ahead_;
  Scratch scratch_;
  Flights receives_;
  Flights sends_;
};

}  // namespace

void ring_all_reduce(const Wire& wire, std::span<std::byte> data, const Combine& how) {
  const std::size_t element = size_of(how.dtype);
  const auto size = static_cast<std::size_t>(wire.size());
  const std::vector<Part> parts = parts_of(data.size() / element, size);
  RingPass(wire, data, parts, element, &how, {0, 2 * (size - 1)}).run();
}

void ring_reduce_scatter(const Wire& wire, std::span<std::byte> data, std::span<const Part> parts,
                         const Combine& how) {
  RingPass(wire, data, parts, size_of(how.dtype), &how, {0, parts.size() - 1}).run();
}

void ring_all_gather(const Wire& wire, std::span<std::byte> data, std::span<const Part> parts,
                     std::size_t element) {
  RingPass(wire, data, parts, element, nullptr, {parts.size() - 1, parts.size() - 1}).run();
}

}  // namespace mls
