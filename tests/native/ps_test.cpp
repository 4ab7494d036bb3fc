// Workers and parameter servers as threads: random schedules against a sequential model. Run under
// the sanitizers.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <random>

#include "ps_cluster.hpp"

using namespace mls;
using namespace std::chrono_literals;
using test::Cluster;
using test::contains;
using test::dense;
using test::failure_of;
using test::rows;
using test::soon;

namespace {

float gradient_of(int worker, int step, std::size_t i) {
  return static_cast<float>((worker + 1) * 7 % 5 - 2) * 0.25f +
         static_cast<float>((i * 31 + static_cast<std::size_t>(step)) % 17) * 0.125f;
}

std::vector<float> gradients_of(int worker, int step, std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = gradient_of(worker, step, i);
  return values;
}

void dawdle(std::mt19937& random) {
  if (random() % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
}

}  // namespace

TEST(bsp_is_the_sequential_model_bit_for_bit) {
  for (const int workers : {1, 2, 5}) {
    for (const int servers : {1, 3}) {
      for (const std::size_t count : {std::size_t{1}, std::size_t{50}, std::size_t{300'001}}) {
        const int steps = count > 1000 ? 3 : 20;
        Cluster{workers, servers, {dense(count), dense(40)}}.run(
            [&](Client& client, int worker, Transport&) {
              std::mt19937 random(static_cast<unsigned>(worker));
              std::vector<float> expected(count, 0), other(40), small(40, 1.0f);
              for (int step = 0; step < steps; ++step) {
                dawdle(random);
                const std::vector<float> mine = gradients_of(worker, step, count);
                std::vector<float> seen(count);
                client.push(0, 0.5f, mine, step % 2 ? std::span<float>(seen) : std::span<float>());
                client.push(1, 0.5f, small, other);
                if (step % 2 == 0) client.pull(0, seen);
                client.settle(soon());
                for (std::size_t i = 0; i < count; ++i) {
                  float sum = gradient_of(0, step, i);
                  for (int w = 1; w < workers; ++w) sum += gradient_of(w, step, i);
                  expected[i] -= 0.5f * sum;
                }
                CHECK(seen == expected);
                CHECK(other[39] == -0.5f * static_cast<float>(workers * (step + 1)));
              }
              client.leave(soon());
            });
      }
    }
  }
}

TEST(a_worker_is_never_further_ahead_than_ssp_allows) {
  for (const std::uint32_t bound : {0u, 1u, 3u}) {
    constexpr int kWorkers = 4;
    constexpr int kSteps = 60;
    Cluster{kWorkers, 2, {dense(64, Consistency::ssp, bound)}}.run(
        [&](Client& client, int worker, Transport&) {
          std::mt19937 random(bound * 10 + static_cast<unsigned>(worker));
          const std::vector<float> one(64, -1.0f);  // the parameters count the pushes
          std::vector<float> seen(64);
          for (int step = 1; step <= kSteps; ++step) {
            dawdle(random);
            client.push(0, 1.0f, one, seen);
            client.settle(soon());
            const int others = std::max(0, step - static_cast<int>(bound));
            for (const float value : seen) {
              CHECK(value >= static_cast<float>(step + (kWorkers - 1) * others));
              CHECK(value <= kWorkers * kSteps);
            }
          }
          for (std::size_t behind = bound + 1; behind < client.staleness().size(); ++behind) {
            CHECK(client.staleness()[behind] == 0);
          }
          client.leave(soon());
        });
  }
}

TEST(asp_applies_every_push_once) {
  std::atomic<int> done{0};
  Cluster{3, 2, {dense(100, Consistency::asp)}}.run([&](Client& client, int worker, Transport&) {
    std::mt19937 random(static_cast<unsigned>(worker));
    const std::vector<float> one(100, -1.0f);
    for (int step = 0; step < 50; ++step) {
      dawdle(random);
      client.push(0, 1.0f, one, {});
      if (step % 5 == 0) client.settle(soon());
    }
    client.settle(soon());
    ++done;
    while (done < 3) std::this_thread::sleep_for(1ms);
    std::vector<float> seen(100);
    client.pull(0, seen);
    client.settle(soon());
    for (const float value : seen) CHECK(value == 150.0f);
    client.leave(soon());
  });
}

TEST(rows_are_the_sequential_model_whatever_the_partition) {
  constexpr std::uint32_t kWidth = 3;
  constexpr std::uint64_t kRows = 500;
  for (const auto spread : {RowPartition::Kind::hash, RowPartition::Kind::range}) {
    for (const int servers : {1, 2, 3, -3}) {  // below 0: with rows that all servers have
      constexpr int kWorkers = 3;
      TableSpec spec = rows(kRows, kWidth);
      spec.spread = spread;
      if (servers < 0) spec.hot = {0, 7, 8, 255, 499};
      spec.initial = {Initial::Kind::uniform, 1.0f, 3};
      const auto touched = [](int worker, int step) {
        std::mt19937 random(static_cast<unsigned>(worker * 1000 + step));
        std::vector<std::uint64_t> found(random() % 40);
        for (std::uint64_t& row : found) row = random() % kRows;  // some of them repeated
        return found;
      };
      const int count = std::abs(servers);
      Cluster{kWorkers, count, {spec}}.run([&](Client& client, int worker, Transport&) {
        std::vector<std::uint64_t> all(kRows);
        for (std::uint64_t row = 0; row < kRows; ++row) all[row] = row;
        std::vector<float> expected(kRows * kWidth), seen(kRows * kWidth);
        for (std::uint64_t row = 0; row < kRows; ++row) {
          initial_row(spec.initial, row, std::span(expected).subspan(row * kWidth, kWidth));
        }
        client.pull_rows(0, all, seen);
        client.settle(soon());
        CHECK(seen == expected);
        for (int step = 0; step < 12; ++step) {
          const std::vector<std::uint64_t> mine = touched(worker, step);
          client.push_rows(0, 0.5f, mine, gradients_of(worker, step, mine.size() * kWidth));
          client.pull_rows(0, all, seen);
          client.settle(soon());
          std::vector<float> sums(kRows * kWidth, 0);
          std::vector<bool> first(kRows, true);
          for (int w = 0; w < kWorkers; ++w) {
            const std::vector<std::uint64_t> theirs = touched(w, step);
            for (std::size_t k = 0; k < theirs.size(); ++k) {
              for (std::size_t c = 0; c < kWidth; ++c) {
                float& sum = sums[theirs[k] * kWidth + c];
                const float g = gradient_of(w, step, k * kWidth + c);
                sum = first[theirs[k]] ? g : sum + g;
              }
              first[theirs[k]] = false;
            }
          }
          for (std::size_t i = 0; i < sums.size(); ++i) {
            if (!first[i / kWidth]) expected[i] -= 0.5f * sums[i];
          }
          CHECK(seen == expected);
        }
        client.leave(soon());
      });
    }
  }
}

TEST(all_servers_have_hot_rows_and_pulls_of_them_are_spread) {
  for (const auto spread : {RowPartition::Kind::hash, RowPartition::Kind::range}) {
    for (const std::uint32_t servers : {1u, 2u, 5u}) {
      TableSpec spec = rows(1000, 2);
      spec.spread = spread;
      for (std::uint64_t row = 3; row < 1000; row += 31) spec.hot.push_back(row);
      const RowPartition partition = spec.rows(servers);
      const Replicas replicas = spec.replicas(servers);
      CHECK(!replicas.find(4));
      std::uint64_t behind = 0;
      for (std::uint32_t server = 0; server < servers; ++server) {
        const std::vector<std::uint64_t>& more = replicas.behind(server);
        behind += more.size();
        for (std::size_t i = 0; i < more.size(); ++i) {
          CHECK(replicas.slot(*replicas.find(more[i]), server) == partition.slots(server) + i);
        }
      }
      CHECK(behind == spec.hot.size() * (servers - 1));
      for (const std::uint64_t row : spec.hot) {
        const std::size_t which = *replicas.find(row);
        const Home home = partition.home(row);
        CHECK(replicas.slot(which, home.server) == home.slot);
        std::vector<int> readers(servers, 0);
        for (int worker = 0; worker < 10; ++worker) ++readers[replicas.reads_from(which, worker)];
        for (const int count : readers) CHECK(count == 10 / static_cast<int>(servers));
      }
    }
  }
}

TEST(keys_that_are_asked_for_again_do_not_travel_again) {
  Cluster{1, 2, {rows(100'000, 4, Consistency::asp)}}.run([&](Client& client, int, Transport&) {
    std::vector<std::uint64_t> keys(5000);
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = i * 17;
    std::vector<float> seen(keys.size() * 4);
    std::vector<std::uint64_t> sent;
    for (int round = 0; round < 3; ++round) {
      client.pull_rows(0, keys, seen);
      client.settle(soon());
      sent.push_back(client.sent_bytes());
    }
    CHECK(sent[0] > 5000 * 4);
    CHECK(sent[1] - sent[0] == 2 * sizeof(Message));
    CHECK(sent[2] - sent[1] == 2 * sizeof(Message));
    // many other sets push this one out
    for (std::uint64_t other = 0; other < 2 * kKeySets; ++other) {
      const std::vector<std::uint64_t> few{other, other + 1, other + 50'000};
      std::vector<float> values(12);
      client.pull_rows(0, few, values);
      client.settle(soon());
    }
    client.pull_rows(0, keys, seen);
    client.settle(soon());
    client.leave(soon());
  });
}

TEST(a_worker_sees_what_it_has_pushed_however_large_that_was) {
  Cluster{1, 1, {rows(200'000, 16, Consistency::asp)}}.run([&](Client& client, int, Transport&) {
    std::vector<std::uint64_t> keys(20'000);  // more than travels along with a request
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = i * 9;
    const std::vector<float> one(keys.size() * 16, -1.0f);
    std::vector<float> seen(one.size());
    for (int step = 1; step <= 5; ++step) {
      client.push_rows(0, 1.0f, keys, one);
      client.pull_rows(0, keys, seen);
      client.settle(soon());
      for (const float value : seen) CHECK(value == static_cast<float>(step));
    }
    client.leave(soon());
  });
}

TEST(pushes_that_run_far_ahead_wait_for_the_slow_worker) {
  constexpr int kSteps = 3 * static_cast<int>(Shard::kAhead);
  Cluster{2, 1, {dense(4)}}.run([&](Client& client, int worker, Transport&) {
    const std::vector<float> one(4, -1.0f);
    std::vector<float> seen(4);
    if (worker == 1) std::this_thread::sleep_for(50ms);
    for (int step = 0; step < kSteps; ++step) client.push(0, 1.0f, one, {});
    client.pull(0, seen);
    client.settle(soon());
    CHECK(seen[0] == 2.0f * kSteps);
    client.leave(soon());
  });
}

TEST(a_worker_that_leaves_twice_is_one_that_left) {
  Cluster{2, 1, {dense(4)}}.run([&](Client& client, int worker, Transport&) {
    if (worker == 0) {
      client.leave(soon());
      client.leave(soon());
      return;
    }
    std::this_thread::sleep_for(20ms);
    std::vector<float> seen(4);
    client.push(0, 1.0f, std::vector<float>(4, -1.0f), seen);
    client.settle(soon());
    CHECK(seen[1] == 1.0f);
    client.leave(soon());
  });
}

TEST(a_share_that_was_read_can_be_written_to_another_number_of_servers) {
  TableSpec table = dense(10'001);
  table.rule = {.id = RuleId::adam};
  const std::size_t floats = 3;  // a parameter and its state
  std::vector<float> parameters(table.count), state(2 * table.count), after(table.count);
  Client::Share share;
  const auto step = [&](Client& client, int number, std::vector<float>& seen) {
    client.push(0, 0.01f, gradients_of(0, number, table.count), seen);
    client.settle(soon());
  };
  Cluster{1, 2, {table}}.run([&](Client& client, int, Transport&) {
    for (int number = 0; number < 3; ++number) step(client, number, after);
    for (std::uint32_t server = 0; server < 2; ++server) {
      const Range own = dense_range(table.count, 2, server);
      std::vector<float> piece(own.length * floats);
      share = client.read(0, server, {0, own.length}, piece, soon());
      std::copy_n(piece.begin(), own.length, parameters.begin() + static_cast<long>(own.start));
      for (std::size_t k = 0; k < 2; ++k) {
        std::copy_n(piece.begin() + static_cast<long>((1 + k) * own.length), own.length,
                    state.begin() + static_cast<long>(k * table.count + own.start));
      }
    }
    CHECK(parameters == after && share.updates == 3 && share.steps == 3);
    step(client, 3, after);
    client.leave(soon());
  });
  Cluster{1, 3, {table}}.run([&](Client& client, int, Transport&) {
    for (std::uint32_t server = 0; server < 3; ++server) {
      const Range own = dense_range(table.count, 3, server);
      for (const Range part :
           {Range{0, own.length / 2}, Range{own.length / 2, own.length - own.length / 2}}) {
        std::vector<float> piece;
        const auto take = [&](const std::vector<float>& from, std::size_t at) {
          const auto first = from.begin() + static_cast<long>(at + own.start + part.start);
          piece.insert(piece.end(), first, first + static_cast<long>(part.length));
        };
        take(parameters, 0);
        take(state, 0);
        take(state, table.count);
        client.write(0, server, part, piece, share, soon());
      }
    }
    client.resume_at(0, share.steps);
    std::vector<float> seen(table.count);
    client.pull(0, seen);
    client.settle(soon());
    CHECK(seen == parameters);
    step(client, 3, seen);
    CHECK(seen == after);
    client.leave(soon());
  });
}

TEST(a_pull_that_waits_too_long_names_who_is_late) {
  std::atomic<bool> told{false};
  TableSpec coded = rows(9, 2);
  coded.codec = {.codec = CodecId::fp16};
  Cluster{2, 1, {dense(10), rows(9, 2), coded}, 50ms}.run(
      [&](Client& client, int worker, Transport&) {
        const std::vector<float> one(10, -1.0f), two(2, -1.0f);
        const std::vector<std::uint64_t> row{3};
        std::vector<float> seen(10), of_row(2);
        if (worker == 1) {
          const Deadline deadline = soon();
          while (!told && Clock::now() < deadline) std::this_thread::sleep_for(1ms);
          client.push(0, 1.0f, one, {});
          client.push_rows(1, 1.0f, row, two);
          client.push_rows(2, 1.0f, row, two);
          client.settle(soon());
          client.leave(soon());
          return;
        }
        client.push(0, 1.0f, one, seen);
        const std::string story = failure_of([&] { client.settle(soon()); });
        CHECK(contains(story, "the pushes of step 1 have not come from rank 1"));
        for (const std::size_t table : {1, 2}) {
          client.push_rows(table, 1.0f, row, two);
          client.pull_rows(table, row, of_row);
          CHECK(contains(failure_of([&] { client.settle(soon()); }), "have not come from rank 1"));
        }
        told = true;
        // the push has counted: asking again is enough
        while (!failure_of([&] {
                  client.pull(0, seen);
                  client.settle(soon());
                }).empty()) {
        }
        CHECK(seen[3] == 2.0f);
        client.leave(soon());
      });
}

// Thousands of schedules, without threads: workers whose messages interleave at random.
TEST(no_schedule_breaks_what_consistency_promises) {
  std::mt19937 random(11);
  for (int schedule = 0; schedule < 3000; ++schedule) {
    const int workers = 1 + static_cast<int>(random() % 4);
    const auto consistency = static_cast<Consistency>(random() % 3);
    const std::uint32_t bound = random() % 4;
    const std::uint64_t steps = 1 + random() % 6;
    Shard shard({{.name = "w", .count = 3, .consistency = consistency, .staleness = bound}},
                workers, 0, 1);
    // a worker pushes; then it waits until it may pull
    std::vector<std::uint64_t> pushed(static_cast<std::size_t>(workers), 0);
    std::vector<bool> waits(static_cast<std::size_t>(workers), false);
    std::vector<float> model(3, 0);
    std::uint64_t applied = 0;
    float total = 0;
    while (true) {
      std::vector<std::size_t> able;
      for (std::size_t w = 0; w < pushed.size(); ++w) {
        if (waits[w] ? shard.clocks(0).may_pull(pushed[w]) : pushed[w] < steps) able.push_back(w);
      }
      if (able.empty()) break;
      const std::size_t w = able[random() % able.size()];
      const float* values = shard.dense(0).values().data();
      if (waits[w]) {
        const std::uint64_t least = *std::ranges::min_element(pushed);
        if (consistency == Consistency::bsp) {
          CHECK(values[1] == model[1] && applied == pushed[w]);
        } else {
          CHECK(values[0] == total);
          if (consistency == Consistency::ssp) CHECK(pushed[w] <= least + bound);
        }
        waits[w] = false;
        continue;
      }
      const float g = gradient_of(static_cast<int>(w), static_cast<int>(pushed[w]), 0);
      Buffer buffer = shard.pool().take(12);
      for (std::size_t i = 0; i < 3; ++i) buffer.floats()[i] = i == 0 ? -1.0f : g;
      shard.push(0, static_cast<int>(w), {pushed[w], 1.0f, {}, std::move(buffer)}, [](Range) {});
      ++pushed[w];
      total += 1;
      waits[w] = true;
      if (*std::ranges::min_element(pushed) > applied) {
        float sum = gradient_of(0, static_cast<int>(applied), 0);
        for (int other = 1; other < workers; ++other) {
          sum += gradient_of(other, static_cast<int>(applied), 0);
        }
        model[1] -= sum;
        ++applied;
      }
    }
    for (const std::uint64_t count : pushed) CHECK(count == steps);  // nobody waits for ever
  }
}

TEST(values_may_lie_anywhere_in_their_cache_lines) {
  constexpr std::size_t kCount = 20'000;
  for (const Consistency consistency : {Consistency::bsp, Consistency::asp}) {
    Cluster{2, 1, {dense(kCount, consistency)}}.run([&](Client& client, int, Transport&) {
      std::vector<float> from(kCount + 16, 1.0f), into(kCount + 16);
      for (std::size_t at = 0; at < 16; ++at) {
        const std::span<float> seen = std::span(into).subspan(15 - at, kCount);
        client.push(0, 0.5f, std::span(from).subspan(at, kCount), seen);
        client.settle(soon());
        CHECK(std::ranges::count(seen, seen[0]) == kCount);
        CHECK(seen[0] <= -0.5f * static_cast<float>(at + 1));
        const float pushed = seen[0];
        client.pull(0, seen);
        client.settle(soon());
        CHECK(std::ranges::count(seen, seen[0]) == kCount);
        CHECK(seen[0] <= pushed);
      }
      client.leave(soon());
    });
  }
}
