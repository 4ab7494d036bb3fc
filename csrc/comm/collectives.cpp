// Broadcast along a binomial tree, all-gather around a ring, barrier by agreement.
// Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication operations in MPICH".
#include "comm/collectives.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "base/failure.hpp"
#include "comm/story.hpp"
#include "comm/topology.hpp"

namespace mls {
namespace {

// The children of a rank in the binomial tree of `size` ranks numbered from the root.
std::vector<int> children_of(int relative, int size) {
  std::vector<int> children;
  for (int bit = 1; bit < size; bit *= 2) {
    if (relative & bit) break;
    if (relative + bit < size) children.push_back(relative + bit);
  }
  std::reverse(children.begin(), children.end());  // the deepest subtree first
  return children;
}

void exchange(Transport& transport, int to, std::span<const std::byte> out, int from,
              std::span<std::byte> in, Tag tag, Deadline deadline) {
  Request receive;
  Request send;
  try {
    transport.receive(receive, from, tag, in);
    transport.send(send, to, tag, out);
    transport.wait(receive, deadline);
    transport.wait(send, deadline);
  } catch (const Failure&) {
    transport.cancel(receive);
    transport.cancel(send);
    throw;
  }
}

}  // namespace

void broadcast(Transport& transport, std::span<std::byte> data, int root, int dtype,
               const Options& options) {
  Story story("broadcast", transport, options);
  const int size = transport.size();
  Fault fault = options.fault;
  if (root < 0 || root >= size) fault = Fault::bad_root;
  if (options.check || fault == Fault::bad_root) {
    story.tell([&] {
      agree(transport,
            {.operation = Operation::broadcast,
             .count = data.size(),
             .dtype = dtype,
             .detail = root,
             .fault = fault},
            story.sequence(), story.deadline());
    });
  }
  const int relative = (transport.rank() - root + size) % size;
  const int parent = (root + (relative & (relative - 1))) % size;
  const std::vector<int> children = children_of(relative, size);
  const std::size_t segments = ceil_div(data.size(), options.segment_bytes);
  std::vector<Request> sends(children.size());
  Request receive;
  story.tell([&] {
    try {
      for (std::size_t k = 0; k < segments; ++k) {
        const Part part = segment_of({0, data.size()}, options.segment_bytes, k);
        const std::span<std::byte> bytes = data.subspan(part.start, part.length);
        const Tag tag(Channel::broadcast, story.sequence(), k);
        if (relative != 0) {
          transport.receive(receive, parent, tag, bytes);
          transport.wait(receive, story.deadline());
        }
        for (std::size_t i = 0; i < children.size(); ++i) {
          transport.wait(sends[i], story.deadline());
          transport.send(sends[i], (root + children[i]) % size, tag, bytes);
        }
      }
      for (Request& send : sends) transport.wait(send, story.deadline());
    } catch (const Failure&) {
      transport.cancel(receive);
      for (Request& send : sends) transport.cancel(send);
      throw;
    }
  });
}

void all_gather(Transport& transport, std::span<const std::byte> mine, std::span<std::byte> whole,
                int dtype, const Options& options) {
  Story story("all-gather", transport, options);
  const auto size = static_cast<std::size_t>(transport.size());
  Fault fault = options.fault;
  if (whole.size() != mine.size() * size) fault = Fault::wrong_size;
  story.tell([&] {
    agree(transport,
          {.operation = Operation::all_gather,
           .count = mine.size(),
           .dtype = dtype,
           .fault = fault},
          story.sequence(), story.deadline());
  });
  const Ring ring{transport.rank(), transport.size()};
  const std::size_t length = mine.size();
  std::copy(mine.begin(), mine.end(),
            whole.begin() + static_cast<std::ptrdiff_t>(length * ring.sent_chunk(0)));
  const std::size_t segments = ceil_div(length, options.segment_bytes);
  story.tell([&] {
    for (std::size_t step = 0; step + 1 < size; ++step) {
      for (std::size_t k = 0; k < segments; ++k) {
        const Part part = segment_of({0, length}, options.segment_bytes, k);
        const std::span<std::byte> out =
            whole.subspan(ring.sent_chunk(step) * length + part.start, part.length);
        const std::span<std::byte> in =
            whole.subspan(ring.received_chunk(step) * length + part.start, part.length);
        const Tag tag(Channel::all_gather, story.sequence(), step * segments + k);
        exchange(transport, ring.right(), out, ring.left(), in, tag, story.deadline());
      }
    }
  });
}

void barrier(Transport& transport, const Options& options) {
  Story story("barrier", transport, options);
  story.tell([&] {
    agree(transport, {.operation = Operation::barrier}, story.sequence(), story.deadline());
  });
}

}  // namespace mls
