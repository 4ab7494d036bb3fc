// What goes wrong in a collective, over threads; run under the sanitizers.
#include <cstring>

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

TEST(a_rank_with_a_fault_takes_part_in_the_failure) {
  const auto failures = on_ranks(3, [&](Transport& transport) {
    AllReduce asked = sums();
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
