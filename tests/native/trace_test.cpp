// The trace of a rank, and what collectives note in it; run under the thread sanitizer.
#include "comm/trace.hpp"

#include <algorithm>
#include <map>
#include <memory>

#include "comm/clocks.hpp"
#include "comm/collectives.hpp"
#include "comm/engine.hpp"
#include "harness.hpp"

using namespace mls;
using namespace std::chrono_literals;
using test::on_ranks;

namespace {

constexpr std::size_t kEnough = 100'000;

// How many events have each name.
std::map<std::string, int> counts(const Trace::Records& records) {
  std::map<std::string, int> found;
  for (const Trace::Event& event : records.events) ++found[records.names[event.name]];
  return found;
}

bool nested(Trace::Records records) {
  const auto end = [](const Trace::Event& event) { return event.start_ns + event.duration_ns; };
  std::ranges::sort(records.events, [](const Trace::Event& a, const Trace::Event& b) {
    return a.start_ns != b.start_ns ? a.start_ns < b.start_ns : a.duration_ns > b.duration_ns;
  });
  std::map<std::uint32_t, std::vector<std::int64_t>> open;  // ends, by track
  for (const Trace::Event& event : records.events) {
    if (event.track == Trace::kQueue) continue;
    std::vector<std::int64_t>& ends = open[event.track];
    while (!ends.empty() && ends.back() <= event.start_ns) ends.pop_back();
    if (event.duration_ns < 0 || (!ends.empty() && end(event) > ends.back())) return false;
    ends.push_back(end(event));
  }
  return true;
}

// The trace of a rank whose all-reduce takes this algorithm.
Trace::Records traced(Transport& transport, Algorithm algorithm, std::size_t size) {
  const auto trace = std::make_shared<Trace>();
  transport.note_in(trace);
  trace->start(kEnough);
  std::vector<float> data(size, 1.0f);
  all_reduce(transport, std::as_writable_bytes(std::span(data)),
             {.algorithm = algorithm, .options = {.label = "it", .segment_bytes = 64}});
  return trace->records();
}

}  // namespace

TEST(threads_note_events_together_and_those_beyond_the_limit_are_counted) {
  constexpr int kThreads = 4;
  constexpr int kEvents = 2000;
  Trace trace;
  trace.start(5000);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      if (i == 0) trace.name_thread("first");
      for (int k = 0; k < kEvents; ++k)
        const Span span(&trace, "work", 0, 0, std::to_string(k % 7));
    });
  }
  for (int k = 0; k < 50; ++k) CHECK(trace.records().events.size() <= 5000);
  for (std::thread& thread : threads) thread.join();
  const Trace::Records records = trace.records();
  CHECK(records.events.size() == 5000);
  CHECK(records.dropped == kThreads * kEvents - 5000);
  CHECK(records.tracks.size() <= 2 + kThreads && records.tracks[1] == "main");
  CHECK(std::ranges::count(records.tracks, "first") == 1);
  CHECK(nested(records));
  trace.start(10);
  CHECK(trace.records().events.empty() && trace.records().dropped == 0);
}

TEST(nothing_is_noted_while_the_trace_is_off) {
  Trace trace;
  {
    const Span span(&trace, "before");
  }
  trace.start(10);
  {
    const Span span(&trace, "on", 3, 5, "label");
  }
  trace.stop();
  {
    const Span span(&trace, "after");
  }
  {
    const Span span(nullptr, "nowhere");
  }
  const Trace::Records records = trace.records();
  CHECK(records.events.size() == 1 && records.dropped == 0);
  const Trace::Event& event = records.events[0];
  CHECK(records.names[event.name] == "on of label" && records.tracks[event.track] == "main");
  CHECK(event.number == 3 && event.bytes == 5 && event.duration_ns >= 0);
}

TEST(there_is_an_end_to_names_too) {
  Trace trace;
  trace.start(30'000);
  for (int k = 0; k < 20'000; ++k) const Span span(&trace, std::to_string(k));
  {
    const Span span(&trace, "7");
  }
  const Trace::Records records = trace.records();
  CHECK(records.events.size() == 20'001 && records.names.size() == 10'000);
  CHECK(records.names[records.events.back().name] == "7");
  CHECK(records.names[records.events[15'000].name] == "(a further name)");
}

TEST(every_algorithm_notes_its_phases) {
  struct Phases {
    Algorithm algorithm;
    std::size_t count;
    std::vector<std::string> names;
  };
  const std::vector<Phases> phases{
      {Algorithm::ring, 1000, {"reduce-scatter", "all-gather"}},
      {Algorithm::doubling, 1000, {"exchange"}},
      {Algorithm::doubling, 40'000, {"exchange"}},
      {Algorithm::halving, 1000, {"all-gather", "exchange"}},
      {Algorithm::halving, 40'000, {"reduce-scatter", "all-gather", "exchange"}},
      {Algorithm::hierarchical, 1000, {"reduce-scatter", "all-gather", "between nodes"}},
  };
  for (const auto& [algorithm, count, names] : phases) {
    for (const int size : {2, 4}) {
      on_ranks(size, [&](Transport& transport) {
        std::vector<int> nodes;
        for (int rank = 0; rank < size; ++rank) nodes.push_back(rank / 2);
        transport.place(nodes);
        const Trace::Records records = traced(transport, algorithm, count);
        std::map<std::string, int> found = counts(records);
        CHECK(nested(records));
        CHECK(found["all-reduce of it"] == 1 && found["agreement"] == 1);
        CHECK(found[std::string(name_of(algorithm))] == 1);
        for (const std::string& name : names) CHECK(found[name] >= 1);
        const Trace::Event& whole = records.events.back();
        CHECK(whole.number == 1 && whole.bytes == 4 * count);
      });
    }
  }
}

TEST(an_operation_in_the_background_is_noted_with_its_time_in_the_queue) {
  on_ranks(2, [](Transport& transport) {
    const auto trace = std::make_shared<Trace>();
    transport.note_in(trace);
    trace->start(kEnough);
    std::vector<float> data(10);
    Engine engine(transport);
    const auto operation = [&](Transport& own) {
      all_reduce(own, std::as_writable_bytes(std::span(data)), {.options = {.label = "bucket 0"}});
    };
    CHECK(engine.wait_for(engine.submit("all-reduce of bucket 0", operation), 60s));
    engine.close(5s);
    const Trace::Records records = trace->records();
    const Trace::Event& queued = records.events.front();
    const Trace::Event& whole = records.events.back();
    CHECK(queued.track == Trace::kQueue && records.tracks[whole.track] == "exchange");
    CHECK(queued.name == whole.name);
    CHECK(queued.start_ns + queued.duration_ns <= whole.start_ns);
  });
}

TEST(rank_0_answers_each_rank_between_its_sending_and_receiving) {
  for (const int size : {1, 2, 4}) {
    on_ranks(size, [](Transport& transport) {
      const std::vector<Echo> echoes = exchange_clocks(transport, 20, {.timeout = 60s});
      CHECK(echoes.size() == (transport.rank() == 0 ? 0u : 20u));
      for (const Echo& echo : echoes) {  // of threads, which have one clock
        CHECK(echo.sent <= echo.answered && echo.answered <= echo.received);
      }
    });
  }
}
