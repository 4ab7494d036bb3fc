// The collectives over threads; run under the sanitizers.
#include "comm/collectives.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "comm/topology.hpp"
#include "harness.hpp"

using namespace mls;
using test::contains;
using test::on_ranks;

namespace {

constexpr int kWorlds[] = {1, 2, 3, 4, 5, 6, 7, 8};
// around the edges of segments of 64 bytes, for 1 to 7 chunks
constexpr std::size_t kSizes[] = {0, 1, 2, 3, 6, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000};

// Rank r's value of element i: small enough that sums are exact in every type.
int value(int rank, std::size_t i) { return (rank * 5 + static_cast<int>(i % 11)) % 8; }

void put(DType dtype, std::byte* into, std::size_t i, int number) {
  const auto write = [&](auto typed) {
    std::memcpy(into + i * sizeof typed, &typed, sizeof typed);
  };
  switch (dtype) {
    case DType::f16: {
      constexpr std::uint16_t halves[] = {0x0000, 0x3c00, 0x4000, 0x4200,
                                          0x4400, 0x4500, 0x4600, 0x4700};
      return write(halves[number]);
    }
    case DType::bf16: {
      const float wide = static_cast<float>(number);
      std::uint32_t bits;
      std::memcpy(&bits, &wide, sizeof bits);
      return write(static_cast<std::uint16_t>(bits >> 16));
    }
    case DType::f32:
      return write(static_cast<float>(number));
    case DType::f64:
      return write(static_cast<double>(number));
    case DType::i8:
    case DType::u8:
      return write(static_cast<std::uint8_t>(number));
    case DType::i16:
    case DType::u16:
      return write(static_cast<std::uint16_t>(number));
    case DType::i32:
    case DType::u32:
      return write(static_cast<std::uint32_t>(number));
    case DType::i64:
    case DType::u64:
      return write(static_cast<std::uint64_t>(number));
  }
}

std::vector<std::byte> input(DType dtype, int rank, std::size_t size) {
  std::vector<std::byte> bytes(size * size_of(dtype));
  for (std::size_t i = 0; i < size; ++i) put(dtype, bytes.data(), i, value(rank, i));
  return bytes;
}

// The exact result, by reducing rank after rank without a network.
std::vector<std::byte> wanted(DType dtype, ReduceOp op, bool average, int ranks, std::size_t size) {
  std::vector<std::byte> result = input(dtype, 0, size);
  for (int rank = 1; rank < ranks; ++rank) {
    reduce(op, dtype, result.data(), input(dtype, rank, size).data(), size);
  }
  if (average) divide(dtype, result.data(), size, ranks);
  return result;
}

constexpr Algorithm kOverMessages[] = {Algorithm::automatic, Algorithm::ring, Algorithm::doubling,
                                       Algorithm::halving, Algorithm::hierarchical};

AllReduce request(DType dtype, ReduceOp op, bool average = false) {
  return {.dtype = dtype,
          .op = op,
          .average = average,
          .options = {.label = "x", .timeout = std::chrono::seconds(60), .segment_bytes = 64}};
}

// Ranks 0 and 1 on the first node, the next on the second, the others on the third; or all on one.
std::vector<int> nodes_of(int ranks) {
  std::vector<int> nodes(static_cast<std::size_t>(ranks), 2);
  for (std::size_t rank = 0; rank < nodes.size() && rank < 3; ++rank)
    nodes[rank] = rank < 2 ? 0 : 1;
  return nodes;
}

void check_all_reduce(int ranks, DType dtype, ReduceOp op, bool average, std::size_t size,
                      bool several_nodes = false) {
  const std::vector<std::byte> expected = wanted(dtype, op, average, ranks, size);
  const auto failures = on_ranks(ranks, [&](Transport& transport) {
    if (several_nodes) transport.place(nodes_of(ranks));
    for (const Algorithm algorithm : kOverMessages) {
      for (const bool check : {true, false}) {
        std::vector<std::byte> data = input(dtype, transport.rank(), size);
        AllReduce asked = request(dtype, op, average);
        asked.algorithm = algorithm;
        asked.options.check = check;
        all_reduce(transport, data, asked);
        CHECK(data == expected);
      }
    }
  });
  for (const auto& failure : failures) CHECK(!failure);
}

std::span<std::byte> bytes_of(std::vector<float>& data) {
  return std::as_writable_bytes(std::span(data));
}

// Numbers whose sums depend on the order.
std::vector<float> ragged(int seed, std::size_t count) {
  std::vector<float> data(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto noise =
        static_cast<float>((i * 7919 + static_cast<std::size_t>(seed) * 104729) % 997);
    data[i] = (noise - 400.0F) * (i % 3 == 0 ? 1e-3F : 1e3F) + 0.1F;
  }
  return data;
}

}  // namespace

TEST(all_reduce_of_every_size) {
  for (const int ranks : kWorlds) {
    for (const std::size_t size : kSizes) {
      check_all_reduce(ranks, DType::f32, ReduceOp::sum, false, size);
    }
  }
}

TEST(all_reduce_over_nodes_of_different_sizes) {
  for (const int ranks : {2, 3, 4, 5, 7, 8}) {
    for (const std::size_t size : {0, 1, 2, 7, 64, 65, 5000}) {
      check_all_reduce(ranks, DType::f32, ReduceOp::sum, true, size, true);
    }
  }
}

TEST(all_reduce_of_every_type_and_operation) {
  for (const int ranks : {2, 3}) {
    for (std::size_t i = 0; i < kDTypes.size(); ++i) {
      const auto dtype = static_cast<DType>(i);
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max, ReduceOp::product}) {
        check_all_reduce(ranks, dtype, op, false, 101);
      }
      if (is_float(dtype)) check_all_reduce(ranks, dtype, ReduceOp::sum, true, 101);
    }
  }
}

TEST(all_reduce_without_comparing_and_many_in_a_row) {
  on_ranks(4, [&](Transport& transport) {
    for (int round = 0; round < 200; ++round) {  // more than the numbers in a tag
      std::vector<float> data(37, static_cast<float>(round));
      AllReduce asked = request(DType::f32, ReduceOp::sum);
      asked.options.check = round % 2 == 0;
      all_reduce(transport, std::as_writable_bytes(std::span(data)), asked);
      for (const float x : data) CHECK(x == static_cast<float>(4 * round));
    }
  });
}

TEST(every_algorithm_gives_the_same_bits_on_all_ranks_and_again) {
  for (const int ranks : {3, 4, 6}) {
    for (const Algorithm algorithm : kOverMessages) {
      std::vector<std::vector<float>> results(static_cast<std::size_t>(ranks));
      for (int repeat = 0; repeat < 2; ++repeat) {
        std::vector<std::vector<float>> now(static_cast<std::size_t>(ranks));
        on_ranks(ranks, [&](Transport& transport) {
          std::vector<float> data = ragged(transport.rank(), 3000);
          AllReduce asked = request(DType::f32, ReduceOp::sum);
          asked.algorithm = algorithm;
          all_reduce(transport, bytes_of(data), asked);
          now[static_cast<std::size_t>(transport.rank())] = data;
        });
        for (const auto& data : now) CHECK(data == now[0]);
        if (repeat == 0) results = now;
        CHECK(now == results);
      }
    }
  }
}

// Eight shares, summed over 1, 2, 4 or 8 ranks that each hold the tree sum of their own.
TEST(the_order_tree_does_not_depend_on_the_number_of_ranks) {
  constexpr std::size_t kCount = 2000;
  const auto tree_sum = [](int first, int shares) {
    std::vector<std::vector<float>> level;
    for (int i = 0; i < shares; ++i) level.push_back(ragged(first + i, kCount));
    while (level.size() > 1) {
      std::vector<std::vector<float>> above;
      for (std::size_t i = 0; i < level.size(); i += 2) {
        for (std::size_t k = 0; k < kCount; ++k) level[i][k] += level[i + 1][k];
        above.push_back(level[i]);
      }
      level = above;
    }
    return level[0];
  };
  const std::vector<float> expected = tree_sum(0, 8);
  std::vector<float> any = expected;
  for (const int ranks : {2, 4, 8}) {
    for (const Algorithm algorithm :
         {Algorithm::automatic, Algorithm::doubling, Algorithm::halving}) {
      for (const std::size_t count : {std::size_t{10}, kCount}) {
        const auto failures = on_ranks(ranks, [&](Transport& transport) {
          std::vector<float> data = tree_sum(transport.rank() * 8 / ranks, 8 / ranks);
          data.resize(count);
          AllReduce asked = request(DType::f32, ReduceOp::sum);
          asked.algorithm = algorithm;
          asked.order = Order::tree;
          all_reduce(transport, bytes_of(data), asked);
          CHECK(std::equal(data.begin(), data.end(), expected.begin()));
        });
        for (const auto& failure : failures) CHECK(!failure);
      }
    }
  }
}

TEST(what_an_algorithm_cannot_do_is_a_failure_on_all_ranks) {
  const auto text_of = [](const AllReduce& asked) {
    const auto failures = on_ranks(2, [&](Transport& transport) {
      std::vector<std::byte> data(64);
      all_reduce(transport, data, asked);
    });
    CHECK(failures[0] && failures[1]);
    CHECK(std::string(failures[0]->what()) == failures[1]->what());
    CHECK(failures[0]->kind() == FailureKind::config && failures[0]->on_all_ranks());
    return std::string(failures[0]->what());
  };
  CHECK(contains(text_of({.dtype = DType::i32, .average = true, .options = {}}),
                 "integers for an average"));
  CHECK(contains(text_of({.algorithm = Algorithm::shared, .options = {}}), "share no memory"));
  CHECK(contains(text_of({.algorithm = Algorithm::ring, .order = Order::tree, .options = {}}),
                 "cannot sum in the order 'tree'"));
}

// Which of two zeros is the least is left open, but not whether ranks agree on it.
TEST(zeros_of_both_signs_are_the_same_bits_on_all_ranks) {
  for (const int ranks : {2, 3, 4, 7}) {
    for (const Algorithm algorithm : kOverMessages) {
      for (const bool check : {true, false}) {
        std::vector<std::vector<float>> results(static_cast<std::size_t>(ranks));
        on_ranks(ranks, [&](Transport& transport) {
          std::vector<float> data(100, transport.rank() % 2 ? 0.0F : -0.0F);
          AllReduce asked = request(DType::f32, ReduceOp::min);
          asked.algorithm = algorithm;
          asked.options.check = check;
          all_reduce(transport, bytes_of(data), asked);
          results[static_cast<std::size_t>(transport.rank())] = data;
        });
        for (const auto& data : results) {
          CHECK(std::memcmp(data.data(), results[0].data(), 400) == 0);
        }
      }
    }
  }
}

TEST(nan_and_infinities_go_through_every_algorithm) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const auto failures = on_ranks(5, [&](Transport& transport) {
    for (const Algorithm algorithm : kOverMessages) {
      std::vector<float> data(5000, 1.0F);
      if (transport.rank() == 1) data[17] = nan;
      if (transport.rank() == 2) data[4999] = infinity;
      if (transport.rank() == 3) data[4998] = infinity;
      if (transport.rank() == 4) data[4998] = -infinity;
      AllReduce asked = request(DType::f32, ReduceOp::sum);
      asked.algorithm = algorithm;
      all_reduce(transport, bytes_of(data), asked);
      CHECK(data[0] == 5.0F && std::isnan(data[17]) && data[4999] == infinity);
      CHECK(std::isnan(data[4998]));
    }
  });
  for (const auto& failure : failures) CHECK(!failure);
}

TEST(ten_million_elements) {
  constexpr std::size_t kCount = 10'000'000;
  for (const Algorithm algorithm : {Algorithm::ring, Algorithm::doubling, Algorithm::halving}) {
    const auto failures = on_ranks(3, [&](Transport& transport) {
      std::vector<float> data(kCount);
      for (std::size_t i = 0; i < kCount; ++i) {
        data[i] = static_cast<float>(i % 1000) + static_cast<float>(transport.rank());
      }
      all_reduce(transport, std::as_writable_bytes(std::span(data)),
                 {.algorithm = algorithm, .options = {.timeout = std::chrono::seconds(60)}});
      for (std::size_t i = 0; i < kCount; ++i) {
        CHECK(data[i] == 3 * static_cast<float>(i % 1000) + 3);
      }
    });
    for (const auto& failure : failures) CHECK(!failure);
  }
}

TEST(reduce_scatter_of_every_size) {
  for (const int ranks : kWorlds) {
    for (const std::size_t size : kSizes) {
      const std::vector<std::byte> expected = wanted(DType::f32, ReduceOp::sum, true, ranks, size);
      const auto failures = on_ranks(ranks, [&](Transport& transport) {
        std::vector<std::byte> data = input(DType::f32, transport.rank(), size);
        reduce_scatter(transport, data, 1, request(DType::f32, ReduceOp::sum, true));
        const Part own = part_of(size, static_cast<std::size_t>(ranks),
                                 static_cast<std::size_t>(transport.rank()));
        const auto part = [&](const std::vector<std::byte>& whole) {
          return std::span(whole).subspan(4 * own.start, 4 * own.length);
        };
        CHECK(std::ranges::equal(part(data), part(expected)));
      });
      for (const auto& failure : failures) CHECK(!failure);
    }
  }
}

TEST(grouped_arrays_are_fused_up_to_a_size) {
  const std::size_t counts[] = {3, 0, 100, 1, 5000, 7};
  for (const std::size_t fusion_bytes : {1, 100, 1 << 20}) {
    const auto failures = on_ranks(3, [&](Transport& transport) {
      std::vector<std::vector<float>> arrays;
      std::vector<std::span<std::byte>> spans;
      for (const std::size_t count : counts) {
        arrays.push_back(ragged(transport.rank(), count));
      }
      for (auto& array : arrays) spans.push_back(bytes_of(array));
      grouped_all_reduce(transport, spans, fusion_bytes, request(DType::f32, ReduceOp::max));
      for (const auto& array : arrays) {
        for (std::size_t i = 0; i < array.size(); ++i) {
          float most = ragged(0, i + 1)[i];
          for (int rank = 1; rank < 3; ++rank) most = std::max(most, ragged(rank, i + 1)[i]);
          CHECK(array[i] == most);
          if (i == 20) break;
        }
      }
    });
    for (const auto& failure : failures) CHECK(!failure);
  }
}

TEST(all_to_all_with_counts) {
  const Options options{.timeout = std::chrono::seconds(60), .segment_bytes = 64};
  // rank a has (a + 2 b) % 5 * 40 bytes for rank b
  const auto length = [](int from, int to) {
    return static_cast<std::size_t>((from + 2 * to) % 5 * 40);
  };
  for (const int ranks : kWorlds) {
    const auto failures = on_ranks(ranks, [&](Transport& transport) {
      std::vector<std::byte> sent;
      std::vector<std::size_t> out;
      std::vector<std::size_t> in;
      std::vector<std::byte> expected;
      for (int peer = 0; peer < ranks; ++peer) {
        out.push_back(length(transport.rank(), peer));
        in.push_back(length(peer, transport.rank()));
        sent.insert(sent.end(), out.back(), static_cast<std::byte>(transport.rank() * 16 + peer));
        expected.insert(expected.end(), in.back(),
                        static_cast<std::byte>(peer * 16 + transport.rank()));
      }
      std::vector<std::byte> received(expected.size());
      all_to_all(transport, sent, out, received, in, 0, options);
      CHECK(received == expected);
    });
    for (const auto& failure : failures) CHECK(!failure);
  }
}

TEST(a_gather_of_parts_of_different_lengths) {
  const std::vector<std::size_t> lengths{70, 0, 1, 200};
  const auto failures = on_ranks(4, [&](Transport& transport) {
    const auto rank = static_cast<std::size_t>(transport.rank());
    const std::vector<std::byte> mine(lengths[rank], static_cast<std::byte>(rank));
    std::vector<std::byte> whole(271);
    all_gather(transport, mine, whole, lengths, 0, {.segment_bytes = 64});
    std::size_t at = 0;
    for (std::size_t peer = 0; peer < 4; ++peer) {
      for (std::size_t i = 0; i < lengths[peer]; ++i) {
        CHECK(whole[at++] == static_cast<std::byte>(peer));
      }
    }
    const std::vector<std::size_t> others{70, 1, 0, 200};
    all_gather(transport, mine, whole, rank == 3 ? others : lengths, 0, {});
  });
  for (const auto& failure : failures) {
    CHECK(failure && failure->on_all_ranks());
    CHECK(contains(failure->what(), "lengths of parts"));
  }
}

TEST(broadcast_gather_and_barrier_of_every_size) {
  const Options options{.timeout = std::chrono::seconds(60), .segment_bytes = 64};
  for (const int ranks : kWorlds) {
    for (const std::size_t size : {0, 1, 63, 64, 65, 500}) {
      const auto failures = on_ranks(ranks, [&](Transport& transport) {
        const auto own = static_cast<std::byte>(transport.rank() + 1);
        for (int root = 0; root < ranks; ++root) {
          std::vector<std::byte> data(size, own);
          broadcast(transport, data, root, 0, options);
          for (const std::byte x : data) CHECK(x == static_cast<std::byte>(root + 1));
        }
        const std::vector<std::byte> mine(size, own);
        std::vector<std::byte> whole(size * static_cast<std::size_t>(ranks));
        all_gather(transport, mine, whole, {}, 0, options);
        for (std::size_t i = 0; i < whole.size(); ++i) {
          CHECK(whole[i] == static_cast<std::byte>(i / size + 1));
        }
        barrier(transport, options);
      });
      for (const auto& failure : failures) CHECK(!failure);
    }
  }
}
