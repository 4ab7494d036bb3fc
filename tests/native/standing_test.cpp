// What other threads see of a transport, and how they end its waits.
#include "comm/standing.hpp"

#include <atomic>
#include <memory>
#include <thread>

#include "comm/collectives.hpp"
#include "harness.hpp"

using namespace mls;
using namespace std::chrono_literals;
using test::contains;

namespace {

void reduce(Transport& transport, std::chrono::duration<double> timeout) {
  std::vector<float> data(6);
  const Passed passed{.dtype = static_cast<int>(DType::f32), .axes = 2, .shape = {2, 3}};
  all_reduce(
      transport, std::as_writable_bytes(std::span(data)),
      {.options = {.label = "bucket 3", .timeout = timeout, .check = false, .passed = passed}});
}

std::string failure_of_reduce(Transport& transport, std::chrono::duration<double> timeout) {
  try {
    reduce(transport, timeout);
  } catch (const Failure& failure) {
    CHECK(failure.kind() == FailureKind::timeout);
    return failure.what();
  }
  return "";
}

}  // namespace

TEST(another_thread_sees_what_a_transport_does) {
  const auto world = std::make_shared<ThreadWorld>(2);
  const auto transport = world->transport(0);
  CHECK(transport->standing().number == 0 && !transport->standing().running);
  const Clock::time_point before = Clock::now();
  std::thread thread([&] { failure_of_reduce(*transport, 60s); });
  Standing seen;
  do {
    std::this_thread::yield();
    seen = transport->standing();
  } while (seen.peer < 0);
  CHECK(seen.running && seen.number == 1 && seen.peer == 1);
  CHECK(std::string(seen.operation) == "all-reduce" && seen.label == "bucket 3");
  CHECK(seen.passed.dtype == static_cast<int>(DType::f32));
  CHECK(seen.passed.axes == 2 && seen.passed.shape[0] == 2 && seen.passed.shape[1] == 3);
  CHECK(seen.started >= before && seen.deadline == seen.started + 60s);
  CHECK(!seen.failure);
  transport->abandon("enough");
  thread.join();
  seen = transport->standing();
  CHECK(!seen.running && seen.number == 1);
  CHECK(contains(seen.failure.value_or(""), "receive from rank 1: enough"));
}

TEST(what_was_abandoned_gives_the_first_reason_to_all_later_operations) {
  const auto transport = std::make_shared<ThreadWorld>(1)->transport(0);
  reduce(*transport, 1s);
  CHECK(!transport->standing().failure);
  transport->abandon("rank 1 gave up");
  transport->abandon("rank 2 gave up");
  CHECK(failure_of_reduce(*transport, 1s) == "all-reduce: rank 1 gave up");
  CHECK(failure_of_reduce(*transport, 1s) == "all-reduce: rank 1 gave up");
  CHECK(transport->standing().number == 1);
}

TEST(a_transport_may_be_looked_at_while_it_works) {
  std::atomic<bool> done{false};
  test::on_ranks(3, [&](Transport& transport) {
    std::thread watcher([&] {
      std::uint32_t last = 0;
      while (!done) {
        const Standing seen = transport.standing();
        CHECK(seen.number >= last && (seen.number == 0 || seen.label == "bucket 3"));
        last = seen.number;
      }
    });
    for (int i = 0; i < 200; ++i) reduce(transport, 60s);
    done = true;
    watcher.join();
  });
}
