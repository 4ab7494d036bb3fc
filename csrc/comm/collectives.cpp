// Between nodes broadcast along a binomial tree, all-gather around a ring, barrier by agreement;
// inside a node all of them through shared memory. All-to-all always by messages.
// Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication operations in MPICH".
#include "comm/collectives.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "comm/board.hpp"
#include "comm/prepare.hpp"
#include "comm/ring.hpp"
#include "comm/shared.hpp"
#include "comm/story.hpp"
#include "comm/topology.hpp"
#include "comm/wire.hpp"

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

// The parts of the whole, in bytes; empty where they do not fill it.
std::vector<Part> parts_from(std::span<const std::size_t> lengths, std::size_t whole, int size) {
  std::vector<Part> parts;
  std::size_t start = 0;
  for (const std::size_t length : lengths) {
    if (length > whole - start) return {};
    parts.push_back({start, length});
    start += length;
  }
  if (start != whole || parts.size() != static_cast<std::size_t>(size)) return {};
  return parts;
}

// To find out whether ranks mean the same lengths (FNV-1a).
int digest_of(std::span<const std::size_t> lengths) {
  std::uint32_t digest = 2166136261u;
  for (const std::size_t length : lengths) {
    for (std::size_t byte = 0; byte < sizeof length; ++byte) {
      digest = (digest ^ ((length >> 8 * byte) & 0xff)) * 16777619u;
    }
  }
  return static_cast<int>(digest & 0x7fffffffu);
}

}  // namespace

void broadcast(Transport& transport, std::span<std::byte> data, int root, int dtype,
               const Options& options) {
  Story story("broadcast", transport, options, data.size());
  const bool root_is_rank = root >= 0 && root < transport.size();
  const bool only_read = options.fault == Fault::read_only && root == transport.rank();
  const Fault fault = only_read ? Fault::none : options.fault;
  const Intent intent{.operation = Operation::broadcast,
                      .dtype = dtype,
                      .detail = root,
                      .count = data.size(),
                      .segment = options.segment_bytes,
                      .fault = root_is_rank ? fault : Fault::bad_root};
  story.tell([&] {
    if (meets(transport)) {
      const bool small = data.size() <= kSlotBytes && intent.fault == Fault::none;
      const Place place = small ? Place{} : place_of(data);
      prepare(transport, intent, options, story, place,
              small && root == transport.rank() ? data : std::span<std::byte>());
      Board& board = *transport.board();
      if (small) {
        if (root != transport.rank()) std::copy_n(board.small(root), data.size(), data.begin());
        return;
      }
      std::vector<Part> parts(static_cast<std::size_t>(transport.size()), {0, 0});
      parts[static_cast<std::size_t>(root)].length = data.size();
      NodeArrays(board, transport, data, place, story.deadline()).spread(parts);
    } else {
      prepare(transport, intent, options, story);
      broadcast_segments(transport, data, root, options.segment(transport), story);
    }
  });
}

void all_gather(Transport& transport, std::span<const std::byte> mine, std::span<std::byte> whole,
                std::span<const std::size_t> lengths, int dtype, const Options& options) {
  Story story("all-gather", transport, options, whole.size());
  const auto size = static_cast<std::size_t>(transport.size());
  const auto rank = static_cast<std::size_t>(transport.rank());
  const std::vector<std::size_t> equal(lengths.empty() ? size : 0, mine.size());
  const std::vector<Part> parts =
      parts_from(lengths.empty() ? equal : lengths, whole.size(), transport.size());
  const bool fits = !parts.empty() && parts[rank].length == mine.size();
  const Intent intent{
      .operation = Operation::all_gather,
      .dtype = dtype,
      .detail = digest_of(lengths),
      .count = whole.size(),
      .segment = options.segment_bytes,
      .fault = fits || options.fault != Fault::none ? options.fault : Fault::wrong_size};
  story.tell([&] {
    const bool sound = intent.fault == Fault::none;
    const bool small = whole.size() <= kSlotBytes && sound;
    const Place place = small ? Place{} : place_of(whole);
    prepare(transport, intent, options, story, place, small ? mine : std::span<const std::byte>());
    if (whole.empty()) return;
    if (meets(transport) && small) {
      for (std::size_t peer = 0; peer < size; ++peer) {
        std::copy_n(transport.board()->small(static_cast<int>(peer)), parts[peer].length,
                    whole.subspan(parts[peer].start).begin());
      }
      return;
    }
    if (!mine.empty()) {  // it may lie in its place already
      std::memmove(whole.data() + parts[rank].start, mine.data(), mine.size());
    }
    if (meets(transport)) {
      NodeArrays(*transport.board(), transport, whole, place, story.deadline()).spread(parts);
    } else if (transport.size() > 1) {
      const Group all = Group::all(transport.rank(), transport.size());
      ring_all_gather({transport, all, Channel::all_gather, story.sequence(), story.deadline(),
                       options.segment(transport)},
                      whole, parts, 1);
    }
  });
}

// Pairwise: in step j with the ranks j in front and j behind, so that no rank is told by two.
void all_to_all(Transport& transport, std::span<const std::byte> sent,
                std::span<const std::size_t> sent_lengths, std::span<std::byte> received,
                std::span<const std::size_t> received_lengths, int dtype, const Options& options) {
  Story story("all-to-all", transport, options, sent.size());
  const int size = transport.size();
  const int rank = transport.rank();
  const std::vector<Part> out = parts_from(sent_lengths, sent.size(), size);
  const std::vector<Part> in = parts_from(received_lengths, received.size(), size);
  const auto own = static_cast<std::size_t>(rank);
  const bool fits = !out.empty() && !in.empty() && out[own].length == in[own].length;
  const Intent intent{
      .operation = Operation::all_to_all,
      .dtype = dtype,
      .segment = options.segment_bytes,
      .fault = fits || options.fault != Fault::none ? options.fault : Fault::wrong_size};
  const Group all = Group::all(rank, size);
  const Wire wire{transport,           all,
                  Channel::all_to_all, story.sequence(),
                  story.deadline(),    options.segment(transport)};
  story.tell([&] {
    prepare(transport, intent, options, story);
    std::ranges::copy(sent.subspan(out[own].start, out[own].length),
                      received.subspan(in[own].start).begin());
    for (int step = 1; step < size; ++step) {
      const auto to = static_cast<std::size_t>((rank + step) % size);
      const auto from = static_cast<std::size_t>((rank + size - step) % size);
      transport.at_step(static_cast<std::size_t>(step), static_cast<std::size_t>(size) - 1);
      const std::size_t longest = std::max(out[to].length, in[from].length);
      for (std::size_t k = 0; k < ceil_div(longest, wire.segment_bytes); ++k) {
        const Part given = segment_of(out[to], wire.segment_bytes, k);
        const Part taken = segment_of(in[from], wire.segment_bytes, k);
        Flights flights(transport, 2);
        if (taken.length > 0) {
          wire.receive(flights[0], static_cast<int>(from), k,
                       received.subspan(taken.start, taken.length));
        }
        if (given.length > 0) {
          wire.send(flights[1], static_cast<int>(to), k, sent.subspan(given.start, given.length));
        }
        wire.wait(flights[0]);
        wire.wait(flights[1]);
      }
    }
  });
}

void barrier(Transport& transport, const Options& options) {
  Story story("barrier", transport, options, 0);
  story.tell([&] { prepare(transport, {}, options, story); });
}

}  // namespace mls
