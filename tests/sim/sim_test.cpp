// The algorithms in the simulator, and their cost by csrc/comm/cost.hpp: what is predicted is what
// is counted.
#include <cstring>
#include <string>

#include "comm/collectives.hpp"
#include "comm/cost.hpp"
#include "native/harness.hpp"
#include "world.hpp"

using namespace mls;
using sim::Outcome;
using sim::Payload;
using sim::Shape;
using sim::Time;

namespace {

constexpr Algorithm kModelled[] = {Algorithm::ring, Algorithm::doubling, Algorithm::halving,
                                   Algorithm::hierarchical};
constexpr std::size_t kElement = sizeof(std::int32_t);
constexpr Time kLatency = 1000;

// Nodes of one rank, each with links of its own to all others.
constexpr Shape crossbar(Time latency, Time per_byte) {
  return {.ranks_per_node = 1,
          .nodes_per_leaf = 1 << 10,
          .link_latency = latency / 2,
          .link_per_byte = per_byte,
          .spine_latency = 0,
          .memory_latency = 0,
          .memory_per_byte = 0,
          .copy_per_byte = 0};
}

constexpr Shape tree(int ranks_per_node) {
  return {.ranks_per_node = ranks_per_node,
          .nodes_per_leaf = 2,
          .link_latency = 700,
          .link_per_byte = 80,
          .spine_latency = 250,
          .memory_latency = 300,
          .memory_per_byte = 10,
          .copy_per_byte = 100};
}

AllReduce request(Algorithm algorithm, std::size_t segment_bytes) {
  return {.dtype = DType::i32,
          .algorithm = algorithm,
          .options = {.segment_bytes = segment_bytes, .check = false}};
}

std::int32_t value(int rank, std::size_t i) { return (rank + 1) * (static_cast<int>(i % 13) + 1); }

std::int32_t sum(int ranks, std::size_t i) { return ranks * (ranks + 1) / 2 * value(0, i); }

Outcome reduced(const Shape& shape, int ranks, std::size_t count, const AllReduce& how,
                Payload payload = Payload::carried) {
  sim::World world({ranks, shape}, payload);
  return world.run([&](Transport& transport) {
    std::vector<std::int32_t> data(count);
    for (std::size_t i = 0; i < count; ++i) data[i] = value(transport.rank(), i);
    all_reduce(transport, std::as_writable_bytes(std::span(data)), how);
    if (payload == Payload::counted) return;
    for (std::size_t i = 0; i < count; ++i) CHECK(data[i] == sum(ranks, i));
  });
}

std::vector<Sent> predicted(Algorithm algorithm, const std::vector<int>& nodes,
                            const Extent& extent) {
  std::vector<Sent> sent;
  for (int rank = 0; rank < static_cast<int>(nodes.size()); ++rank) {
    sent.push_back(sent_by(algorithm, rank, nodes, extent));
  }
  return sent;
}

std::uint64_t rounds_of(Algorithm algorithm, int ranks) {
  if (algorithm == Algorithm::doubling) return doubling_rounds(ranks);
  if (algorithm == Algorithm::halving) return halving_rounds(ranks);
  return ring_rounds(static_cast<std::size_t>(ranks));
}

void check_counts(const Shape& shape, int ranks, std::size_t count, std::size_t segment_bytes,
                  Payload payload) {
  const std::vector<int> nodes = sim::Network(ranks, shape).nodes();
  for (const Algorithm algorithm : kModelled) {
    const Outcome outcome =
        reduced(shape, ranks, count, request(algorithm, segment_bytes), payload);
    CHECK(outcome.sent == predicted(algorithm, nodes, {count, kElement, segment_bytes}));
  }
}

}  // namespace

TEST(the_predicted_bytes_and_messages_are_those_that_are_counted) {
  for (int ranks = 1; ranks <= 16; ++ranks) {
    const auto size = static_cast<std::size_t>(ranks);
    for (const int ranks_per_node : {1, 3, 4}) {
      for (const std::size_t count : {std::size_t{0}, std::size_t{1}, size - 1, size, size + 1,
                                      4 * size + 3, std::size_t{257}}) {
        for (const std::size_t segment_bytes : {8, 36, 4096}) {
          check_counts(tree(ranks_per_node), ranks, count, segment_bytes, Payload::carried);
        }
      }
    }
  }
}

TEST(what_ranks_send_to_agree_is_predicted_too) {
  for (int ranks = 2; ranks <= 9; ++ranks) {
    const std::vector<int> nodes = sim::Network(ranks, tree(3)).nodes();
    for (const std::size_t count :
         {std::size_t{0}, std::size_t{1}, std::size_t{257}, kMostAlong / kElement,
          kMostAlong / kElement + 1, 2 * kMostAlong / kElement, 2 * kMostAlong / kElement + 1}) {
      for (const std::size_t segment_bytes : {4096, 1 << 16}) {
        const Extent extent{count, kElement, segment_bytes};
        for (const Algorithm algorithm : kModelled) {
          AllReduce asked = request(algorithm, segment_bytes);
          asked.options.check = true;
          std::vector<Sent> expected = predicted(algorithm, nodes, extent);
          for (int rank = 0; rank < ranks; ++rank) {
            const Folded folded{rank, ranks};
            Sent& sent = expected[static_cast<std::size_t>(rank)];
            if (count > 0 && goes_along(algorithm, folded, extent)) {
              sent = agreed_sent(algorithm, folded, extent);
            } else {
              sent += agreed_sent(Algorithm::doubling, folded, {0, kElement, segment_bytes});
            }
          }
          CHECK(reduced(tree(3), ranks, count, asked).sent == expected);
        }
      }
    }
  }
}

TEST(the_agreement_costs_no_rounds_where_it_goes_along) {
  for (const int ranks : {2, 4, 8, 16, 32}) {
    for (const Algorithm algorithm : {Algorithm::doubling, Algorithm::halving}) {
      AllReduce asked = request(algorithm, 1 << 20);
      asked.options.check = true;
      const Outcome outcome = reduced(crossbar(kLatency, 0), ranks, 1000, asked);
      CHECK(outcome.end == static_cast<Time>(time_of(rounds_of(algorithm, ranks), 0, kLatency, 0)));
    }
  }
}

TEST(the_prediction_holds_for_large_arrays_whose_slices_go_round_a_ring) {
  for (const int ranks : {6, 8, 13}) {
    for (const std::size_t count : {1u << 16, 100'003u}) {
      check_counts(tree(4), ranks, count, 64 * 1024, Payload::counted);
    }
  }
}

TEST(ring_and_halving_send_as_little_as_possible) {
  for (const int ranks : {2, 4, 16, 64}) {
    const std::vector<int> nodes(static_cast<std::size_t>(ranks), 0);
    const std::size_t count = 64 * 3;
    for (const Algorithm algorithm : {Algorithm::ring, Algorithm::halving}) {
      for (const Sent& sent : predicted(algorithm, nodes, {count, kElement, 1 << 20})) {
        CHECK(sent.bytes * nodes.size() == 2 * (nodes.size() - 1) * count * kElement);
      }
    }
  }
}

TEST(without_a_cost_of_bytes_the_time_is_the_rounds_times_the_latency) {
  for (int ranks = 2; ranks <= 33; ++ranks) {
    for (const Algorithm algorithm : {Algorithm::ring, Algorithm::doubling, Algorithm::halving}) {
      const Outcome outcome =
          reduced(crossbar(kLatency, 0), ranks, 1000, request(algorithm, 1 << 20));
      CHECK(outcome.end == static_cast<Time>(time_of(rounds_of(algorithm, ranks), 0, kLatency, 0)));
    }
  }
}

TEST(where_links_are_not_shared_the_time_is_the_predicted_one) {
  for (const int ranks : {2, 4, 8, 16}) {
    const std::vector<int> nodes(static_cast<std::size_t>(ranks), 0);
    const std::size_t count = 16 * 25;
    for (const Algorithm algorithm : {Algorithm::ring, Algorithm::doubling, Algorithm::halving}) {
      const Outcome outcome =
          reduced(crossbar(kLatency, 7), ranks, count, request(algorithm, 1 << 20));
      const Sent sent = predicted(algorithm, nodes, {count, kElement, 1 << 20})[0];
      CHECK(outcome.end ==
            static_cast<Time>(time_of(rounds_of(algorithm, ranks), sent.bytes, kLatency, 7)));
    }
  }
}

TEST(a_simulation_gives_the_same_times_again_with_and_without_bytes) {
  for (const Algorithm algorithm : kModelled) {
    const AllReduce how = request(algorithm, 256);
    const Outcome first = reduced(tree(4), 13, 5000, how);
    CHECK(first.end > 0);
    CHECK(reduced(tree(4), 13, 5000, how).end == first.end);
    CHECK(reduced(tree(4), 13, 5000, how, Payload::counted).end == first.end);
  }
}

TEST(messages_share_a_link_and_pass_it_in_order) {
  // two ranks of a node send to two of another: the second waits until the link is free
  Shape shape = crossbar(kLatency, 10);
  shape.ranks_per_node = 2;
  sim::World world({4, shape}, Payload::carried);
  std::vector<Time> arrivals(4);
  const Deadline deadline = Deadline::max();
  world.run([&](Transport& transport) {
    std::vector<std::byte> bytes(100);
    Request message;
    const Tag tag(Channel::all_reduce, 0, 0);
    if (transport.rank() < 2) {
      transport.send(message, transport.rank() + 2, tag, bytes);
    } else {
      transport.receive(message, transport.rank() - 2, tag, bytes);
    }
    transport.wait(message, deadline);
    arrivals[static_cast<std::size_t>(transport.rank())] = world.now();
  });
  CHECK((arrivals == std::vector<Time>{1000, 2000, kLatency + 1000, kLatency + 2000}));
}

TEST(where_nobody_sends_all_ranks_are_told_whom_they_wait_for) {
  sim::World world({3, crossbar(kLatency, 0)}, Payload::carried);
  std::vector<std::string> told(3);
  world.run([&](Transport& transport) {
    std::vector<std::byte> bytes(8);
    Request message;
    transport.receive(message, (transport.rank() + 1) % 3, Tag(Channel::agree, 0, 0), bytes);
    try {
      transport.wait(message, Deadline::max());
    } catch (const Failure& failure) {
      told[static_cast<std::size_t>(transport.rank())] = failure.what();
    }
  });
  for (int rank = 0; rank < 3; ++rank) {
    CHECK(test::contains(told[static_cast<std::size_t>(rank)],
                         "receive from rank " + std::to_string((rank + 1) % 3)));
  }
}

TEST(the_first_error_of_a_rank_is_the_one_that_is_thrown) {
  sim::World world({2, crossbar(kLatency, 0)}, Payload::carried);
  std::string thrown;
  try {
    world.run([&](Transport& transport) {
      std::vector<std::byte> bytes(transport.rank() == 0 ? 64 : 32);
      all_reduce(transport, bytes, request(Algorithm::ring, 1 << 20));
    });
  } catch (const Failure& failure) {
    thrown = failure.what();
  }
  CHECK(test::contains(thrown, "the ranks called different operations"));
}
