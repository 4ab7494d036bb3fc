// Broadcast along a binomial tree, all-gather around a ring, barrier by agreement.
// Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication operations in MPICH".
#include "comm/collectives.hpp"

#include <cstring>
#include <vector>

#include "comm/story.hpp"
#include "comm/topology.hpp"

namespace mls {
namespace {

void broadcast_segments(Transport& transport, std::span<std::byte> data, int root,
                        std::size_t segment, const Story& story) {
  const BinomialTree tree{transport.rank(), transport.size(), root};
  const std::vector<int> children = tree.children();
  Flights receive(transport, 1);
  Flights sends(transport, children.size());
  const std::size_t segments = ceil_div(data.size(), segment);
  for (std::size_t k = 0; k < segments; ++k) {
    transport.at_step(k + 1, segments);
    const Part part = segment_of({0, data.size()}, segment, k);
    const std::span<std::byte> bytes = data.subspan(part.start, part.length);
    const Tag tag(Channel::broadcast, story.sequence(), k);
    if (!tree.is_root()) {
      transport.receive(receive[0], tree.parent(), tag, bytes);
      transport.wait(receive[0], story.deadline());
    }
    for (std::size_t i = 0; i < children.size(); ++i) {
      transport.wait(sends[i], story.deadline());
      transport.send(sends[i], children[i], tag, bytes);
    }
  }
  for (std::size_t i = 0; i < children.size(); ++i) transport.wait(sends[i], story.deadline());
}

// In step j, every rank passes on the part that it received in step j - 1.
void gather_segments(Transport& transport, std::span<std::byte> whole, std::size_t length,
                     std::size_t segment, const Story& story) {
  const Ring ring{transport.rank(), transport.size()};
  const std::size_t steps = static_cast<std::size_t>(transport.size()) - 1;
  const std::size_t segments = ceil_div(length, segment);
  for (std::size_t step = 0; step < steps; ++step) {
    transport.at_step(step + 1, steps);
    for (std::size_t k = 0; k < segments; ++k) {
      const Part part = segment_of({0, length}, segment, k);
      const auto piece = [&](std::size_t chunk) {
        return whole.subspan(chunk * length + part.start, part.length);
      };
      const Tag tag(Channel::all_gather, story.sequence(), step * segments + k);
      Flights flights(transport, 2);
      transport.receive(flights[0], ring.left(), tag, piece(ring.received_chunk(step)));
      transport.send(flights[1], ring.right(), tag, piece(ring.sent_chunk(step)));
      transport.wait(flights[0], story.deadline());
      transport.wait(flights[1], story.deadline());
    }
  }
}

}  // namespace

void broadcast(Transport& transport, std::span<std::byte> data, int root, int dtype,
               const Options& options) {
  Story story("broadcast", transport, options);
  const bool root_is_rank = root >= 0 && root < transport.size();
  const bool only_read = options.fault == Fault::read_only && root == transport.rank();
  const Fault fault = only_read ? Fault::none : options.fault;
  const Intent intent{.operation = Operation::broadcast,
                      .dtype = dtype,
                      .detail = root,
                      .count = data.size(),
                      .segment = options.segment(),
                      .fault = root_is_rank ? fault : Fault::bad_root};
  story.tell([&] {
    prepare(transport, intent, options, story);
    broadcast_segments(transport, data, root, options.segment(), story);
  });
}

void all_gather(Transport& transport, std::span<const std::byte> mine, std::span<std::byte> whole,
                int dtype, const Options& options) {
  Story story("all-gather", transport, options);
  const auto size = static_cast<std::size_t>(transport.size());
  const bool fits = whole.size() == mine.size() * size || options.fault != Fault::none;
  const Intent intent{.operation = Operation::all_gather,
                      .dtype = dtype,
                      .count = mine.size(),
                      .segment = options.segment(),
                      .fault = fits ? options.fault : Fault::wrong_size};
  story.tell([&] {
    prepare(transport, intent, options, story);
    if (mine.empty()) return;
    const auto rank = static_cast<std::size_t>(transport.rank());
    std::memmove(whole.data() + rank * mine.size(), mine.data(), mine.size());
    gather_segments(transport, whole, mine.size(), options.segment(), story);
  });
}

void barrier(Transport& transport, const Options& options) {
  Story story("barrier", transport, options);
  story.tell([&] { agree(transport, {}, story.sequence(), story.deadline()); });
}

}  // namespace mls
