// Which algorithm an all-reduce takes, and the operations that are made of its halves.
#include <algorithm>
#include <vector>

#include "comm/agree.hpp"
#include "comm/collectives.hpp"
#include "comm/cost.hpp"
#include "comm/doubling.hpp"
#include "comm/halving.hpp"
#include "comm/hierarchical.hpp"
#include "comm/prepare.hpp"
#include "comm/ring.hpp"
#include "comm/shared.hpp"

namespace mls {
namespace {

Combine combine_of(const Transport& transport, const AllReduce& request) {
  return {.dtype = request.dtype,
          .op = request.op,
          .divisor = request.average ? transport.size() : 1,
          .order = request.order};
}

bool keeps_order(Algorithm algorithm) {
  return algorithm == Algorithm::automatic || algorithm == Algorithm::shared ||
         algorithm == Algorithm::doubling || algorithm == Algorithm::halving;
}

Fault fault_of(const Transport& transport, const AllReduce& request) {
  if (request.options.fault != Fault::none) return request.options.fault;
  if (request.average && !is_float(request.dtype)) return Fault::average_of_integers;
  if (request.algorithm == Algorithm::shared && transport.size() > 1 && !meets(transport)) {
    return Fault::several_nodes;
  }
  if (request.order == Order::tree && !keeps_order(request.algorithm)) return Fault::no_fixed_order;
  return Fault::none;
}

Intent intent_of(Operation operation, const Transport& transport, std::size_t bytes,
                 const AllReduce& request) {
  return {.operation = operation,
          .dtype = static_cast<int>(request.dtype),
          .detail = request.average ? kAverage : static_cast<int>(request.op),
          .count = bytes / size_of(request.dtype),
          .segment = request.options.segment_bytes,
          .algorithm = request.algorithm,
          .order = request.order,
          .fault = fault_of(transport, request)};
}

// One all-reduce between its beginning and its end.
class Run {
 public:
  Run(Transport& transport, std::span<std::byte> data, const AllReduce& request, const Story& story)
      : transport_(transport),
        data_(data),
        request_(request),
        story_(story),
        how_(combine_of(transport, request)),
        intent_(intent_of(Operation::all_reduce, transport, data.size(), request)) {}

  void run() {
    if (meets(transport_)) return on_board();
    const Algorithm algorithm =
        request_.algorithm == Algorithm::automatic ? by_size() : request_.algorithm;
    if (agrees_on_its_way(algorithm)) return take(algorithm, true);
    prepare(transport_, intent_, request_.options, story_);
    if (transport_.size() > 1 && !data_.empty()) take(algorithm);
  }

 private:
  // A board makes the agreement part of the meeting.
  void on_board() {
    const bool small =
        data_.size() <= kSlotBytes && intent_.fault == Fault::none &&
        (request_.algorithm == Algorithm::automatic || stays_in_memory(request_.algorithm));
    const Place place = small ? Place{} : place_of(data_);
    prepare(transport_, intent_, request_.options, story_, place,
            small ? data_ : std::span<std::byte>());
    Board& board = *transport_.board();
    if (small) {
      const Span span(transport_.trace(), "reduce");
      if (!data_.empty()) reduce_small(board, data_, how_);
      return;
    }
    NodeArrays arrays(board, transport_, data_, place, story_.deadline());
    Algorithm algorithm = request_.algorithm;
    if (algorithm == Algorithm::automatic) {
      algorithm = arrays.direct() ? Algorithm::shared : by_size();
    }
    if (stays_in_memory(algorithm)) {
      const Span span(transport_.trace(), name_of(Algorithm::shared));
      arrays.all_reduce(how_);
    } else {
      take(algorithm);
    }
  }

  // agrees: the ranks still have to.
  void take(Algorithm algorithm, bool agrees = false) {
    const Group all = Group::all(transport_.rank(), transport_.size());
    const Span span(transport_.trace(), name_of(algorithm));
    const Wire wire{transport_,          all,
                    Channel::all_reduce, story_.sequence(),
                    story_.deadline(),   request_.options.segment(transport_)};
    if (agrees) return agree_and_reduce(wire, data_, how_, intent_, algorithm);
    switch (algorithm) {
      case Algorithm::doubling:
        return doubling_all_reduce(wire, data_, how_);
      case Algorithm::halving:
        return halving_all_reduce(wire, data_, how_);
      case Algorithm::hierarchical:
        return hierarchical_all_reduce(transport_, data_, how_, intent_, story_,
                                       wire.segment_bytes);
      case Algorithm::mpi:
        if (transport_.own_all_reduce(data_, how_, story_.deadline())) return;
        [[fallthrough]];
      default:
        return ring_all_reduce(wire, data_, how_);
    }
  }

  // What was measured, or else what is usual.
  Algorithm by_size() const {
    constexpr std::size_t kSmall = 8 * 1024;  // less than is measured
    constexpr std::size_t kLatencyBound = 32 * 1024;
    if (!meets(transport_) && data_.size() <= kSmall) return Algorithm::doubling;
    const Algorithm measured = chosen(transport_.choices(), data_.size());
    if (measured != Algorithm::automatic && (how_.order == Order::any || keeps_order(measured))) {
      return measured;
    }
    if (meets(transport_)) return Algorithm::shared;
    if (data_.size() <= kLatencyBound) return Algorithm::doubling;
    if (how_.order == Order::tree) return Algorithm::halving;
    const int nodes = 1 + *std::ranges::max_element(transport_.nodes());
    return nodes > 1 && nodes < transport_.size() ? Algorithm::hierarchical : Algorithm::ring;
  }

  // Inside a node the hierarchy has one level.
  static bool stays_in_memory(Algorithm algorithm) {
    return algorithm == Algorithm::shared || algorithm == Algorithm::hierarchical;
  }

  bool agrees_on_its_way(Algorithm algorithm) const {
    const std::size_t element = size_of(how_.dtype);
    return request_.options.check && intent_.fault == Fault::none && transport_.size() > 1 &&
           !data_.empty() &&
           goes_along(algorithm, {transport_.rank(), transport_.size()},
                      {data_.size() / element, element, request_.options.segment(transport_)});
  }

  Transport& transport_;
  const std::span<std::byte> data_;
  const AllReduce& request_;
  const Story& story_;
  const Combine how_;
  const Intent intent_;
};

}  // namespace

void all_reduce(Transport& transport, std::span<std::byte> data, const AllReduce& request) {
  Story story("all-reduce", transport, request.options, data.size());
  story.tell([&] { Run(transport, data, request, story).run(); });
}

void grouped_all_reduce(Transport& transport, std::span<const std::span<std::byte>> arrays,
                        std::size_t fusion_bytes, const AllReduce& request) {
  for (std::size_t first = 0; first < arrays.size();) {
    std::size_t last = first;
    std::size_t bytes = 0;
    while (last < arrays.size() && (last == first || bytes + arrays[last].size() <= fusion_bytes)) {
      bytes += arrays[last++].size();
    }
    if (last - first == 1) {
      all_reduce(transport, arrays[first], request);
    } else {
      Scratch memory(transport, bytes);
      const std::span<std::byte> fused = memory.part(0, bytes);
      auto at = fused.begin();
      for (std::size_t i = first; i < last; ++i) at = std::ranges::copy(arrays[i], at).out;
      all_reduce(transport, fused, request);
      at = fused.begin();
      for (std::size_t i = first; i < last; ++i) {
        const auto size = static_cast<std::ptrdiff_t>(arrays[i].size());
        std::copy_n(at, size, arrays[i].begin());
        at += size;
      }
    }
    first = last;
  }
}

void reduce_scatter(Transport& transport, std::span<std::byte> data, std::size_t row,
                    const AllReduce& request) {
  Story story("reduce-scatter", transport, request.options, data.size());
  Intent intent = intent_of(Operation::reduce_scatter, transport, data.size(), request);
  intent.segment = row;
  const Combine how = combine_of(transport, request);
  const std::size_t element = size_of(request.dtype);
  const auto size = static_cast<std::size_t>(transport.size());
  std::vector<Part> parts = parts_of(data.size() / element / row, size);
  for (Part& part : parts) part = {part.start * row, part.length * row};
  story.tell([&] {
    if (meets(transport)) {
      const Place place = place_of(data);
      prepare(transport, intent, request.options, story, place);
      if (data.empty()) return;
      NodeArrays arrays(*transport.board(), transport, data, place, story.deadline());
      std::vector<Part> in_bytes;
      for (const Part part : parts) {
        in_bytes.push_back({part.start * element, part.length * element});
      }
      arrays.reduce(in_bytes, how);
      arrays.finish();
    } else {
      prepare(transport, intent, request.options, story);
      if (transport.size() == 1 || data.empty()) return;
      const Group all = Group::all(transport.rank(), transport.size());
      ring_reduce_scatter({transport, all, Channel::all_reduce, story.sequence(), story.deadline(),
                           request.options.segment(transport)},
                          data, parts, how);
    }
  });
}

}  // namespace mls
