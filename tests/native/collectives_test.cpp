// The collectives over threads; run under the sanitizers.
#include "comm/collectives.hpp"

#include <cstring>
#include <numeric>

#include "harness.hpp"

using namespace mls;
using test::contains;
using test::on_ranks;

namespace {

constexpr int kWorlds[] = {1, 2, 3, 4, 7};
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

AllReduce request(DType dtype, ReduceOp op, bool average = false) {
  return {.dtype = dtype,
          .op = op,
          .average = average,
          .options = {.label = "x", .timeout = std::chrono::seconds(60), .segment_bytes = 64}};
}

void check_all_reduce(int ranks, DType dtype, ReduceOp op, bool average, std::size_t size) {
  const std::vector<std::byte> expected = wanted(dtype, op, average, ranks, size);
  const auto failures = on_ranks(ranks, [&](Transport& transport) {
    std::vector<std::byte> data = input(dtype, transport.rank(), size);
    all_reduce(transport, data, request(dtype, op, average));
    CHECK(data == expected);
  });
  for (const auto& failure : failures) CHECK(!failure);
}

}  // namespace

TEST(all_reduce_of_every_size) {
  for (const int ranks : kWorlds) {
    for (const std::size_t size : kSizes) {
      check_all_reduce(ranks, DType::f32, ReduceOp::sum, false, size);
    }
  }
}

TEST(all_reduce_of_every_type_and_operation) {
  for (const int ranks : {2, 3}) {
    for (std::size_t i = 0; i < kDTypes.size(); ++i) {
      const auto dtype = static_cast<DType>(i);
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max}) {
        check_all_reduce(ranks, dtype, op, false, 101);
      }
      check_all_reduce(ranks, dtype, ReduceOp::sum, true, 101);
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
        all_gather(transport, mine, whole, 0, options);
        for (std::size_t i = 0; i < whole.size(); ++i) {
          CHECK(whole[i] == static_cast<std::byte>(i / size + 1));
        }
        barrier(transport, options);
      });
      for (const auto& failure : failures) CHECK(!failure);
    }
  }
}

TEST(a_difference_is_the_same_failure_on_every_rank_and_the_transport_goes_on) {
  for (const int ranks : {2, 3, 4, 7}) {
    std::vector<std::string> first(static_cast<std::size_t>(ranks));
    const auto failures = on_ranks(ranks, [&](Transport& transport) {
      const bool odd = transport.rank() == ranks - 1;
      std::vector<std::byte> data(odd ? 48 : 40);
      try {
        all_reduce(transport, data, request(DType::f32, ReduceOp::sum));
      } catch (const Failure& failure) {
        CHECK(failure.kind() == FailureKind::config && failure.on_all_ranks());
        first[static_cast<std::size_t>(transport.rank())] = failure.what();
      }
      all_reduce(transport, std::span(data).first(40), request(DType::f32, ReduceOp::sum));
    });
    for (const auto& failure : failures) CHECK(!failure);
    for (const std::string& text : first) CHECK(text == first[0]);
    CHECK(contains(first[0],
                   "all-reduce #1 of x: the ranks disagree: rank 0 passed 10 elements of "));
    CHECK(
        contains(first[0], "rank " + std::to_string(ranks - 1) + " passed 12 elements of float32"));
  }
}

TEST(a_rank_with_a_fault_takes_part_in_the_failure) {
  const auto failures = on_ranks(3, [&](Transport& transport) {
    AllReduce asked = request(DType::f32, ReduceOp::sum);
    if (transport.rank() == 1) asked.options.fault = Fault::not_contiguous;
    std::vector<std::byte> data(transport.rank() == 1 ? 0 : 40);
    all_reduce(transport, data, asked);
  });
  for (const auto& failure : failures) {
    CHECK(failure && failure->on_all_ranks());
    CHECK(contains(failure->what(), "rank 1 passed an array that is not C-contiguous"));
  }
}

TEST(a_missing_rank_is_a_timeout_with_a_story_and_breaks_the_transport) {
  const auto failures = on_ranks(3, [&](Transport& transport) {
    if (transport.rank() == 1) return;
    AllReduce asked = request(DType::f32, ReduceOp::sum);
    asked.options.timeout = std::chrono::milliseconds(50);
    asked.options.check = false;
    std::vector<std::byte> data(40);
    std::string story;
    try {
      all_reduce(transport, data, asked);
    } catch (const Failure& failure) {
      CHECK(failure.kind() == FailureKind::timeout && !failure.on_all_ranks());
      story = failure.what();
    }
    CHECK(contains(story, "all-reduce #1 of x on rank "));
    CHECK(contains(story, "ring step "));
    CHECK(contains(story, "receive from rank "));
    barrier(transport, {});
  });
  CHECK(failures[0] &&
        contains(failures[0]->what(), "this transport is broken since: all-reduce #1"));
  CHECK(failures[2] && failures[2]->kind() == FailureKind::timeout);
  CHECK(failures[2]->ranks() == std::vector<int>{1});
}

TEST(sizes_that_differ_without_comparing_fail_and_do_not_overrun) {
  const auto failures = on_ranks(2, [&](Transport& transport) {
    AllReduce asked = request(DType::f32, ReduceOp::sum);
    asked.options.check = false;
    asked.options.timeout = std::chrono::seconds(1);
    std::vector<std::byte> data(transport.rank() == 0 ? 40 : 80);
    all_reduce(transport, data, asked);
  });
  CHECK(failures[0] && contains(failures[0]->what(), "bytes came where"));
  CHECK(failures[0]->kind() == FailureKind::config && !failures[0]->on_all_ranks());
}

TEST(what_watches_a_wait_may_end_it) {
  struct Interruption {};
  on_ranks(2, [&](Transport& transport) {
    if (transport.rank() == 1) return;
    bool interrupted = false;
    try {
      barrier(transport, {.watch = [] { throw Interruption(); }});
    } catch (const Interruption&) {
      interrupted = true;
    }
    CHECK(interrupted);
    std::string story;
    try {
      barrier(transport, {});
    } catch (const Failure& failure) {
      story = failure.what();
    }
    CHECK(contains(story, "since an interruption"));
  });
}

TEST(memory_that_the_network_may_still_use_is_not_freed) {
  // A network that never lets go of a request.
  class Sticky final : public Transport {
   public:
    Sticky() : Transport(0, 2) {}
    void send(Request& request, int peer, Tag, std::span<const std::byte>) override {
      request = {.kind = Request::Kind::send, .peer = peer, .bytes = {}};
    }
    void receive(Request& request, int peer, Tag, std::span<std::byte> bytes) override {
      last = bytes;
      request = {.kind = Request::Kind::receive, .peer = peer, .bytes = bytes};
    }
    void wait(Request& request, Deadline) override {
      fail(FailureKind::timeout, request, "no answer");
    }
    std::span<std::byte> last;

   private:
    bool take_back(Request&) noexcept override { return false; }
  };
  Sticky network;
  std::vector<float> data(10);
  AllReduce asked = request(DType::f32, ReduceOp::sum);
  asked.options.check = false;
  bool failed = false;
  try {
    all_reduce(network, std::as_writable_bytes(std::span(data)), asked);
  } catch (const Failure&) {
    failed = true;
  }
  CHECK(failed && network.unsettled());
  std::memset(network.last.data(), 1, network.last.size());  // the address sanitizer would object
  delete[] network.last.data();                              // so that nothing leaks here
}
