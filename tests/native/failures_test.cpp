// What goes wrong in a collective, over threads; run under the sanitizers.
#include <cstring>
#include <functional>

#include "comm/collectives.hpp"
#include "harness.hpp"

using namespace mls;
using test::contains;
using test::on_ranks;

namespace {

AllReduce sums() {
  return {.options = {.label = "x", .timeout = std::chrono::seconds(60), .segment_bytes = 64}};
}

}  // namespace

TEST(a_difference_is_the_same_failure_on_every_rank_and_the_transport_goes_on) {
  for (const int ranks : {2, 3, 4, 7}) {
    std::vector<std::string> first(static_cast<std::size_t>(ranks));
    const auto failures = on_ranks(ranks, [&](Transport& transport) {
      const bool odd = transport.rank() == ranks - 1;
      std::vector<std::byte> data(odd ? 48 : 40);
      try {
        all_reduce(transport, data, sums());
      } catch (const Failure& failure) {
        CHECK(failure.kind() == FailureKind::config && failure.on_all_ranks());
        first[static_cast<std::size_t>(transport.rank())] = failure.what();
      }
      all_reduce(transport, std::span(data).first(40), sums());
    });
    for (const auto& failure : failures) CHECK(!failure);
    for (const std::string& text : first) CHECK(text == first[0]);
    CHECK(contains(first[0],
                   "all-reduce #1 of x: the ranks disagree: rank 0 passed 10 elements of "));
    CHECK(
        contains(first[0], "rank " + std::to_string(ranks - 1) + " passed 12 elements of float32"));
  }
}

// What one rank does while the others add up an array, and what all are told.
struct Instead {
  const char* told;
  std::function<void(Transport&, std::span<float>, AllReduce)> act;
};

TEST(whatever_a_rank_does_instead_all_have_the_same_failure_and_their_data) {
  constexpr std::size_t kCounts[] = {1, 1000, 16'286, 16'287, 32'572, 32'573};
  const auto bytes = [](std::span<float> data) { return std::as_writable_bytes(data); };
  const auto elements = [&](std::size_t count) {
    return [=](Transport& transport, std::span<float>, const AllReduce& asked) {
      std::vector<float> other(count);
      all_reduce(transport, bytes(other), asked);
    };
  };
  std::vector<Instead> all{
      {"called barrier", [](Transport& transport, std::span<float>,
                            const AllReduce& asked) { barrier(transport, asked.options); }},
      {"called broadcast",
       [&](Transport& transport, std::span<float> data, const AllReduce& asked) {
         broadcast(transport, bytes(data), 0, 0, asked.options);
       }},
      {"passed int32",
       [&](Transport& transport, std::span<float> data, AllReduce asked) {
         asked.dtype = DType::i32;
         all_reduce(transport, bytes(data), asked);
       }},
      {"asked for 'max'",
       [&](Transport& transport, std::span<float> data, AllReduce asked) {
         asked.op = ReduceOp::max;
         all_reduce(transport, bytes(data), asked);
       }},
      {"asked for the algorithm 'ring'",
       [&](Transport& transport, std::span<float> data, AllReduce asked) {
         asked.algorithm = Algorithm::ring;
         all_reduce(transport, bytes(data), asked);
       }},
      {"passed an array that is not C-contiguous",
       [](Transport& transport, std::span<float>, AllReduce asked) {
         asked.options.fault = Fault::not_contiguous;
         all_reduce(transport, {}, asked);
       }},
      {"passed 0 elements", elements(0)}};
  for (const std::size_t count : kCounts) all.push_back({"elements", elements(count + 2)});
  for (const int ranks : {2, 3, 5, 8}) {
    for (const Algorithm usual : {Algorithm::automatic, Algorithm::doubling, Algorithm::halving}) {
      for (const int odd : {0, ranks / 2, ranks - 1}) {
        std::vector<std::string> told(static_cast<std::size_t>(ranks));
        const auto failures = on_ranks(ranks, [&](Transport& transport) {
          std::string& text = told[static_cast<std::size_t>(transport.rank())];
          AllReduce asked = sums();
          asked.algorithm = usual;
          for (const std::size_t count : kCounts) {
            for (const Instead& instead : all) {
              std::vector<float> data(count, static_cast<float>(transport.rank()));
              const std::vector<float> before = data;
              bool failed = false;
              try {
                if (transport.rank() == odd) {
                  instead.act(transport, data, asked);
                } else {
                  all_reduce(transport, bytes(data), asked);
                }
              } catch (const Failure& failure) {
                failed = failure.kind() == FailureKind::config && failure.on_all_ranks();
                const std::string why = failure.what();
                CHECK(contains(why, instead.told));
                text += why.substr(why.find(':'));  // behind what this rank called
              }
              CHECK(failed && data == before);
            }
            std::vector<float> next(count, 1.0F);
            all_reduce(transport, bytes(next), asked);
            CHECK(next == std::vector<float>(count, static_cast<float>(ranks)));
          }
        });
        for (const auto& failure : failures) CHECK(!failure);
        for (const std::string& text : told) CHECK(text == told[0]);
      }
    }
  }
}

TEST(a_rank_that_does_not_come_is_a_timeout_of_those_that_wait_for_it) {
  for (const int ranks : {2, 3, 4, 7}) {
    for (const Algorithm algorithm : {Algorithm::doubling, Algorithm::halving}) {
      const auto failures = on_ranks(ranks, [&](Transport& transport) {
        if (transport.rank() == ranks - 1) return;
        AllReduce asked = sums();
        asked.algorithm = algorithm;
        asked.options.timeout = std::chrono::milliseconds(50);
        std::vector<float> data(1000);
        all_reduce(transport, std::as_writable_bytes(std::span(data)), asked);
      });
      for (int rank = 0; rank < ranks - 1; ++rank) {
        const auto& failure = failures[static_cast<std::size_t>(rank)];
        CHECK(failure && failure->kind() == FailureKind::timeout && !failure->on_all_ranks());
        CHECK(contains(failure->what(), "comparing what the ranks are about to do: "));
      }
    }
  }
}

TEST(a_missing_rank_is_a_timeout_with_a_story_and_breaks_the_transport) {
  const auto failures = on_ranks(3, [&](Transport& transport) {
    if (transport.rank() == 1) return;
    AllReduce asked = sums();
    asked.options.timeout = std::chrono::milliseconds(50);
    asked.options.check = false;
    asked.algorithm = Algorithm::ring;
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
    AllReduce asked = sums();
    asked.options.check = false;
    asked.options.timeout = std::chrono::seconds(1);
    asked.algorithm = Algorithm::ring;
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
  AllReduce asked = sums();
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
