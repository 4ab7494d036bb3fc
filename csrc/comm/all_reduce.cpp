// Which algorithm an all-reduce takes.
#include "comm/collectives.hpp"
#include "comm/ring.hpp"
#include "comm/shared.hpp"

namespace mls {

void all_reduce(Transport& transport, std::span<std::byte> data, const AllReduce& request) {
  Story story("all-reduce", transport, request.options);
  const Intent intent{.operation = Operation::all_reduce,
                      .dtype = static_cast<int>(request.dtype),
                      .detail = request.average ? kAverage : static_cast<int>(request.op),
                      .count = data.size() / size_of(request.dtype),
                      .segment = request.options.segment(),
                      .fault = request.options.fault};
  story.tell([&] {
    if (Board* board = transport.board()) {
      if (shared_all_reduce(*board, transport, data, request, intent, story)) return;
    } else {
      prepare(transport, intent, request.options, story);
    }
    if (transport.size() == 1 || data.empty()) return;
    ring_all_reduce(transport, data, request, story);
  });
}

}  // namespace mls
