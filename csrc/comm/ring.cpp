// Ring all-reduce: reduce-scatter, then all-gather (Patarasuk, Yuan 2009, "Bandwidth optimal
// all-reduce algorithms for clusters of workstations"), pipelined by segments.
//
// data[i] = op over ranks r of data_r[i], in place; every DType; the same bits on every rank, as
// each element is reduced by one rank, in the order of the ring. Every rank sends 2 (P-1)/P of its
// data. Rounding and instruction sets are those of base/reduce.hpp.
//
// for j in 0 .. 2(P-1)-1:                       steps; chunk c = rank - j (mod P)
//   for k in segments:                          the item (j, k) has number j * segments + k
//     send    segment k of chunk c     to   rank + 1
//     receive segment k of chunk c - 1 from rank - 1, reduce it in the first P-1 steps,
//                                               divide it once in the last of them for an average
//
// Sends and receives run `ahead` items in front of the reduction. Because `ahead` is at most the
// number of segments of a chunk, item p + ahead is always ready to be sent once item p is reduced;
// because the send of item p is waited for before item p + ahead is posted, a segment is never
// received into while it is still being sent; and because every rank posts receive p + ahead as
// soon as it has finished item p, the rank that is furthest behind can always go on.
#include "comm/ring.hpp"

#include <algorithm>
#include <string>

#include "comm/topology.hpp"

namespace mls {
namespace {

constexpr std::size_t kAhead = 4;

class RingPass {
 public:
  RingPass(Transport& transport, std::span<std::byte> data, const AllReduce& request,
           const Story& story)
      : transport_(transport),
        ring_{transport.rank(), transport.size()},
        data_(data),
        request_(request),
        sequence_(story.sequence()),
        deadline_(story.deadline()),
        element_(size_of(request.dtype)),
        count_(data.size() / element_),
        longest_(ceil_div(count_, static_cast<std::size_t>(ring_.size))),
        segment_(std::clamp<std::size_t>(request.options.segment() / element_, 1, longest_)),
        segments_(ceil_div(longest_, segment_)),
        steps_(2 * (static_cast<std::size_t>(ring_.size) - 1)),
        ahead_(std::min(kAhead, segments_)),
        scratch_(transport, ahead_ * segment_ * element_),
        receives_(transport, ahead_),
        sends_(transport, ahead_) {}

  void run() {
    const std::size_t items = steps_ * segments_;
    for (std::size_t item = 0; item < ahead_; ++item) post(item);
    for (std::size_t item = 0; item < items; ++item) {
      transport_.at_step(item / segments_ + 1, steps_);
      try {
        transport_.wait(receives_[item % ahead_], deadline_);
        digest(item);
        transport_.wait(sends_[item % ahead_], deadline_);
        if (item + ahead_ < items) post(item + ahead_);
      } catch (const Failure& failure) {
        throw failure.during(place_of(item));
      }
    }
  }

 private:
  std::string place_of(std::size_t item) const {
    return "ring step " + std::to_string(item / segments_ + 1) + " of " + std::to_string(steps_) +
           ", segment " + std::to_string(item % segments_ + 1) + " of " + std::to_string(segments_);
  }

  bool reduces(std::size_t item) const { return item / segments_ < steps_ / 2; }

  std::span<std::byte> segment(std::size_t chunk, std::size_t item) const {
    const Part whole = part_of(count_, static_cast<std::size_t>(ring_.size), chunk);
    const Part part = segment_of(whole, segment_, item % segments_);
    return data_.subspan(part.start * element_, part.length * element_);
  }

  std::span<std::byte> sent(std::size_t item) const {
    return segment(ring_.sent_chunk(item / segments_), item);
  }

  std::span<std::byte> received(std::size_t item) const {
    return segment(ring_.received_chunk(item / segments_), item);
  }

  // Where the message of an item arrives: what is to be reduced, beside the data.
  std::span<std::byte> arrival(std::size_t item) {
    const std::span<std::byte> place = received(item);
    if (!reduces(item)) return place;
    return scratch_.part(item % ahead_ * segment_ * element_, place.size());
  }

  void post(std::size_t item) {
    const Tag tag(Channel::all_reduce, sequence_, item);
    transport_.receive(receives_[item % ahead_], ring_.left(), tag, arrival(item));
    transport_.send(sends_[item % ahead_], ring_.right(), tag, sent(item));
  }

  void digest(std::size_t item) {
    if (!reduces(item)) return;
    const std::span<std::byte> into = received(item);
    const std::size_t length = into.size() / element_;
    reduce(request_.op, request_.dtype, into.data(), arrival(item).data(), length);
    if (request_.average && item / segments_ == steps_ / 2 - 1) {
      divide(request_.dtype, into.data(), length, ring_.size);
    }
  }

  Transport& transport_;
  const Ring ring_;
  const std::span<std::byte> data_;
  const AllReduce& request_;
  const std::uint32_t sequence_;
  const Deadline deadline_;
  const std::size_t element_;
  const std::size_t count_;
  const std::size_t longest_;   // chunk, in elements
  const std::size_t segment_;   // elements
  const std::size_t segments_;  // of a chunk
  const std::size_t steps_;
  const std::size_t ahead_;
  Scratch scratch_;
  Flights receives_;
  Flights sends_;
};

}  // namespace

void ring_all_reduce(Transport& transport, std::span<std::byte> data, const AllReduce& request,
                     const Story& story) {
  RingPass(transport, data, request, story).run();
}

}  // namespace mls
