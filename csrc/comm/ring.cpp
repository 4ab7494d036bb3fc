// Ring all-reduce: reduce-scatter, then all-gather (Patarasuk, Yuan 2009), pipelined by segments.
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
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "base/failure.hpp"
#include "comm/collectives.hpp"
#include "comm/story.hpp"
#include "comm/topology.hpp"

namespace mls {
namespace {

constexpr std::size_t kAhead = 4;

class RingPass {
 public:
  RingPass(Transport& transport, std::span<std::byte> data, const AllReduce& request,
           std::uint32_t sequence, Deadline deadline)
      : transport_(transport),
        ring_{transport.rank(), transport.size()},
        data_(data),
        request_(request),
        sequence_(sequence),
        deadline_(deadline),
        element_(size_of(request.dtype)),
        count_(data.size() / element_),
        segment_(std::max<std::size_t>(1, request.options.segment_bytes / element_)),
        segments_(ceil_div(longest_chunk(), segment_)),
        steps_(2 * (static_cast<std::size_t>(transport.size()) - 1)),
        ahead_(std::min(kAhead, segments_)),
        scratch_(ahead_ * std::min(segment_, longest_chunk()) * element_) {}

  void run() {
    const std::size_t items = steps_ * segments_;
    for (std::size_t item = 0; item < std::min(ahead_, items); ++item) post(item);
    for (std::size_t item = 0; item < items; ++item) {
      at_ = item;
      transport_.wait(receives_[item % ahead_], deadline_);
      digest(item);
      transport_.wait(sends_[item % ahead_], deadline_);
      if (item + ahead_ < items) post(item + ahead_);
    }
  }

  std::string where() const {
    return "ring step " + std::to_string(at_ / segments_ + 1) + " of " + std::to_string(steps_) +
           ", segment " + std::to_string(at_ % segments_ + 1) + " of " + std::to_string(segments_);
  }

  void cancel() noexcept {
    for (Request& request : receives_) transport_.cancel(request);
    for (Request& request : sends_) transport_.cancel(request);
  }

 private:
  std::size_t longest_chunk() const {
    return ceil_div(count_, static_cast<std::size_t>(ring_.size));
  }

  bool reduces(std::size_t item) const { return item / segments_ < steps_ / 2; }

  std::span<std::byte> segment(std::size_t chunk, std::size_t item) const {
    const Part whole = part_of(count_, static_cast<std::size_t>(ring_.size), chunk);
    const Part part = segment_of(whole, segment_, item % segments_);
    return data_.subspan(part.start * element_, part.length * element_);
  }

  std::span<std::byte> received(std::size_t item) const {
    return segment(ring_.received_chunk(item / segments_), item);
  }

  std::byte* scratch(std::size_t item) {
    return scratch_.data() + item % ahead_ * (scratch_.size() / ahead_);
  }

  void post(std::size_t item) {
    const Tag tag(Channel::all_reduce, sequence_, item);
    std::span<std::byte> into = received(item);
    if (reduces(item)) into = {scratch(item), into.size()};
    transport_.receive(receives_[item % ahead_], ring_.left(), tag, into);
    transport_.send(sends_[item % ahead_], ring_.right(), tag,
                    segment(ring_.sent_chunk(item / segments_), item));
  }

  void digest(std::size_t item) {
    if (!reduces(item)) return;
    const std::span<std::byte> into = received(item);
    const std::size_t length = into.size() / element_;
    reduce(request_.op, request_.dtype, into.data(), scratch(item), length);
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
  const std::size_t segment_;   // elements
  const std::size_t segments_;  // of a chunk
  const std::size_t steps_;
  const std::size_t ahead_;
  std::vector<std::byte> scratch_;
  std::array<Request, kAhead> receives_;
  std::array<Request, kAhead> sends_;
  std::size_t at_ = 0;
};

}  // namespace

void all_reduce(Transport& transport, std::span<std::byte> data, const AllReduce& request) {
  Story story("all-reduce", transport, request.options);
  if (request.options.check) {
    const int detail = request.average ? 8 : static_cast<int>(request.op);
    story.tell([&] {
      agree(transport,
            {.operation = Operation::all_reduce,
             .count = data.size() / size_of(request.dtype),
             .dtype = static_cast<int>(request.dtype),
             .detail = detail,
             .fault = request.options.fault},
            story.sequence(), story.deadline());
    });
  }
  if (transport.size() == 1 || data.empty()) return;
  RingPass pass(transport, data, request, story.sequence(), story.deadline());
  story.tell([&] {
    try {
      pass.run();
    } catch (const Failure& failure) {
      pass.cancel();
      throw failure.during(pass.where());
    }
  });
}

}  // namespace mls
