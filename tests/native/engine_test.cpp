// The background thread; run under the thread sanitizer.
#include "comm/engine.hpp"

#include <memory>
#include <random>

#include "comm/collectives.hpp"
#include "harness.hpp"

using namespace mls;
using namespace std::chrono_literals;
using test::contains;
using test::failure_of;
using test::on_ranks;

namespace {

std::uint64_t submit(Engine& engine, std::vector<float>& data,
                     std::chrono::duration<double> timeout, const std::string& label) {
  const AllReduce asked{.options = {.label = label, .timeout = timeout, .segment_bytes = 64}};
  return engine.submit("all-reduce of " + label, [&data, asked](Transport& transport) {
    all_reduce(transport, std::as_writable_bytes(std::span(data)), asked);
  });
}

}  // namespace

TEST(operations_run_in_order_while_the_caller_works) {
  on_ranks(4, [](Transport& transport) {
    Engine engine(transport);
    std::vector<std::vector<float>> buckets(50, std::vector<float>(77, 1.0f));
    std::uint64_t last = 0;
    for (std::vector<float>& bucket : buckets) last = submit(engine, bucket, 60s, "bucket");
    CHECK(last == 50);
    while (!engine.done(last)) CHECK(engine.completed() <= last);
    CHECK(engine.wait_for(last, 60s));
    CHECK(engine.completed() == 50 && engine.done(3));
    for (const std::vector<float>& bucket : buckets) {
      for (const float x : bucket) CHECK(x == 4.0f);
    }
    engine.close(5s);
    CHECK(contains(failure_of([&] { submit(engine, buckets[0], 1s, "late"); }), "closed"));
  });
}

TEST(operations_of_several_groups_interleave_at_random) {
  constexpr int kRanks = 4;
  constexpr std::size_t kGroups = 3;
  constexpr std::size_t kOperations = 60;
  std::vector<std::shared_ptr<ThreadWorld>> worlds;
  for (std::size_t i = 0; i < kGroups; ++i) worlds.push_back(std::make_shared<ThreadWorld>(kRanks));
  on_ranks(kRanks, [&](Transport& own) {
    // within a group all ranks keep one order, between groups each has its own
    std::mt19937 order(static_cast<unsigned>(own.rank()));
    std::vector<std::vector<float>> arrays;
    for (std::size_t i = 0; i < kGroups * kOperations; ++i) {
      arrays.emplace_back(1 + i * 37 % 3000, static_cast<float>(i % kGroups));
    }
    std::vector<std::shared_ptr<Transport>> transports;
    std::vector<std::unique_ptr<Engine>> engines;
    for (const auto& world : worlds) {
      transports.push_back(world->transport(own.rank()));
      engines.push_back(std::make_unique<Engine>(*transports.back()));
    }
    std::vector<std::size_t> next(kGroups, 0);
    for (std::size_t left = kGroups * kOperations; left > 0;) {
      const std::size_t group = order() % kGroups;
      if (next[group] == kOperations) continue;
      std::vector<float>& array = arrays[next[group]++ * kGroups + group];
      submit(*engines[group], array, 60s, "array");
      --left;
    }
    for (const auto& engine : engines) CHECK(engine->wait_for(kOperations, 60s));
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      for (const float x : arrays[i]) CHECK(x == kRanks * static_cast<float>(i % kGroups));
    }
  });
}

TEST(the_first_failure_is_what_every_later_call_reports) {
  on_ranks(2, [](Transport& transport) {
    Engine engine(transport);
    std::vector<float> differs(4 + static_cast<std::size_t>(transport.rank()));
    std::vector<float> good(4);
    const std::uint64_t first = submit(engine, differs, 60s, "bucket 0");
    const std::string story = failure_of([&] { engine.wait_for(first, 60s); });
    CHECK(contains(story, "all-reduce #1 of bucket 0: the ranks disagree"));
    CHECK(engine.done(first) && engine.done(99));
    CHECK(failure_of([&] { submit(engine, good, 60s, "bucket 1"); }) == story);
    CHECK(failure_of([&] { engine.wait_for(first, 60s); }) == story);
  });
}

TEST(an_operation_that_throws_something_else_is_a_failure_too) {
  on_ranks(1, [](Transport& transport) {
    Engine engine(transport);
    const auto ticket = engine.submit("it", [](Transport&) { throw std::bad_alloc(); });
    CHECK(contains(failure_of([&] { engine.wait_for(ticket, 60s); }), "it: std::bad_alloc"));
  });
}

TEST(a_wait_that_is_given_up_says_where_the_thread_is) {
  const auto world = std::make_shared<ThreadWorld>(2);
  const auto transport = world->transport(0);
  std::vector<float> data(9);
  Engine engine(*transport);
  const std::uint64_t ticket = submit(engine, data, 60s, "bucket 7");
  std::string story;
  do {  // the thread comes to its wait in its own time
    CHECK(!engine.wait_for(ticket, 10ms));
    story = failure_of([&] { engine.give_up(ticket, 10ms); });
  } while (!contains(story, "all-reduce of bucket 7, waiting for rank 1"));
  CHECK(contains(story, "operation 1 is not complete after a wait of 0.01 s: rank 0 is in"));
}

TEST(closing_gives_up_what_does_not_end) {
  const auto world = std::make_shared<ThreadWorld>(2);
  const auto transport = world->transport(0);
  std::vector<float> data(9);
  Engine engine(*transport);
  const std::uint64_t ticket = submit(engine, data, 600s, "bucket 7");
  submit(engine, data, 600s, "bucket 8");
  engine.close(10ms);
  CHECK(contains(failure_of([&] { engine.wait_for(ticket, 60s); }), "as the program ends"));
}

TEST(an_engine_without_work_ends) {
  on_ranks(1, [](Transport& transport) {
    Engine engine(transport);
    CHECK(engine.wait_for(0, 0s));
    CHECK(contains(failure_of([&] { engine.wait_for(1, 0s); }), "no such ticket"));
  });
}
