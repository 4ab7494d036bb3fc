// The scaling study: how long an all-reduce takes in one of two networks, from 8 to `most` ranks.
//
//   scaling star|fat_tree [most]    a line per case: array bytes, ranks, algorithm, seconds, bound
//
// Ends with an error where a rank sends something else than csrc/comm/cost.hpp says, or where a
// time is below the bound.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "comm/collectives.hpp"
#include "comm/cost.hpp"
#include "world.hpp"

using namespace mls;
using sim::kMicrosecond;
using sim::kNanosecond;
using sim::Shape;
using sim::Time;

namespace {

constexpr Algorithm kStudied[] = {Algorithm::ring, Algorithm::halving, Algorithm::hierarchical};
constexpr std::size_t kSizes[] = {std::size_t{1} << 20, std::size_t{1} << 26};
constexpr int kFewest = 8;
constexpr std::size_t kSegment = kSegmentBytesBetweenNodes;

constexpr Shape shape_of(Time link_latency, Time gigabits_per_s, int nodes_per_leaf) {
  return {.ranks_per_node = 8,
          .nodes_per_leaf = nodes_per_leaf,
          .link_latency = link_latency,
          .link_per_byte = sim::per_byte_at_gigabits(gigabits_per_s),
          .spine_latency = 250 * kNanosecond,
          .memory_latency = 500 * kNanosecond,
          .memory_per_byte = 10,  // 100 GB/s
          .copy_per_byte = 100};  // 10 GB/s
}

constexpr Shape kStar = shape_of(25 * kMicrosecond, 1, 1 << 20);
constexpr Shape kFatTree = shape_of(750 * kNanosecond, 100, 32);

std::optional<Shape> shape_named(std::string_view name) {
  if (name == "star") return kStar;
  if (name == "fat_tree") return kFatTree;
  return std::nullopt;
}

// What no algorithm can beat. S bytes of n places become one sum at all of them only if these send
// 2 (n - 1) S bytes altogether: the nodes over their links, and the ranks over those or inside a
// node; and, as a rank sends one message at a time, only after log2 n messages.
Time bound(const Shape& shape, int ranks, std::size_t bytes) {
  const int mates = std::min(ranks, shape.ranks_per_node);
  const int nodes = ranks / mates;
  const auto link_rate = 1.0 / static_cast<double>(shape.link_per_byte);
  const double inside_rate = std::min(mates / static_cast<double>(shape.copy_per_byte),
                                      1.0 / static_cast<double>(shape.memory_per_byte));
  const double rate = inside_rate + (nodes > 1 ? link_rate : 0);
  const double of_a_node = 2.0 * static_cast<double>(bytes) / nodes;
  const Time latency = std::countr_zero(static_cast<unsigned>(nodes)) * 2 * shape.link_latency +
                       std::countr_zero(static_cast<unsigned>(mates)) * shape.memory_latency;
  return std::max({static_cast<Time>(of_a_node * (nodes - 1) / link_rate),
                   static_cast<Time>(of_a_node * (ranks - 1) / rate), latency});
}

void check(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what);
}

// Arrays are counted only, so that all ranks can have the same one, and nobody touches it.
Time simulated(const Shape& shape, int ranks, std::span<std::byte> array, Algorithm algorithm) {
  sim::World world({ranks, shape}, sim::Payload::counted);
  const sim::Outcome outcome = world.run([&](Transport& transport) {
    all_reduce(transport, array,
               {.algorithm = algorithm, .options = {.segment_bytes = kSegment, .check = false}});
  });
  const Extent extent{array.size() / sizeof(float), sizeof(float), kSegment};
  const std::vector<int> nodes = sim::Network(ranks, shape).nodes();
  for (int rank = 0; rank < ranks; ++rank) {
    check(outcome.sent[static_cast<std::size_t>(rank)] == sent_by(algorithm, rank, nodes, extent),
          "rank " + std::to_string(rank) + " sent something else than predicted");
  }
  return outcome.end;
}

void study(const Shape& shape, int most) {
  const std::unique_ptr<std::byte[]> memory(new std::byte[std::ranges::max(kSizes)]);
  for (const std::size_t bytes : kSizes) {
    for (int ranks = kFewest; ranks <= most; ranks *= 2) {
      const Time least = bound(shape, ranks, bytes);
      for (const Algorithm algorithm : kStudied) {
        const Time time = simulated(shape, ranks, {memory.get(), bytes}, algorithm);
        check(time >= least, std::string(name_of(algorithm)) + " is faster than possible");
        std::printf("%zu %d %s %.9f %.9f\n", bytes, ranks, name_of(algorithm).data(),
                    1e-12 * static_cast<double>(time), 1e-12 * static_cast<double>(least));
        std::fflush(stdout);
      }
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  const std::optional<Shape> shape = count > 1 ? shape_named(arguments[1]) : std::nullopt;
  if (!shape) {
    std::fputs("usage: scaling star|fat_tree [most ranks]\n", stderr);
    return 2;
  }
  try {
    study(*shape, count > 2 ? std::atoi(arguments[2]) : 1024);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
