// Pushes and pulls as frames: nothing is lost, and all workers see what a sequential model says.
// Run under the sanitizers.
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

TableSpec coded(TableSpec table, Spec codec, bool feedback = true) {
  table.codec = codec;
  table.feedback = feedback;
  return table;
}

std::vector<float> gradient_of(int worker, int step, std::size_t count) {
  std::mt19937 random(static_cast<unsigned>(worker * 1000 + step));
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

const std::vector<Spec> kSpecs{
    {.codec = CodecId::fp16},
    {.codec = CodecId::int8},
    {.codec = CodecId::sign},
    {.codec = CodecId::top_k, .amount = 0.1},
    {.codec = CodecId::top_k, .amount = 0.1, .values = CodecId::int8},
};

// What docs/compression.md says, one server's share after the other.
struct Model {
  Spec spec;
  bool feedback;
  std::size_t count;
  std::uint32_t servers;
  std::vector<std::vector<float>> residuals;
  std::vector<float> parameters = std::vector<float>(count, 0);
  std::vector<float> told = {};
  std::uint64_t sent = 0;  // bytes of one worker's pushes

  std::vector<float> through(std::span<const float> x) {
    std::vector<std::byte> frame(frame_bound(spec, x.size()));
    const std::size_t bytes = encode_frame(spec, x, {}, frame);
    std::vector<float> values(x.size());
    const Frame opened = open_frame(std::span(frame).first(bytes), spec, x.size());
    opened.codec.decode(opened.payload, values.data());
    last = bytes;
    return values;
  }
  std::size_t last = 0;

  void step(const std::vector<std::vector<float>>& gradients, float rate, bool plain) {
    for (std::uint32_t server = 0; server < servers; ++server) {
      const Range own = dense_range(count, servers, server);
      if (own.length == 0) continue;
      const auto part = [&](std::vector<float>& of) {
        return std::span(of).subspan(own.start, own.length);
      };
      std::vector<float> sum;
      for (std::size_t worker = 0; worker < gradients.size(); ++worker) {
        std::vector<float> mine = gradients[worker];
        std::vector<float> x(part(mine).begin(), part(mine).end());
        if (!plain) {
          const std::span<float> rest = part(residuals[worker]);
          if (feedback) {
            for (std::size_t i = 0; i < x.size(); ++i) x[i] = rest[i] += x[i];
          }
          x = through(x);
          if (worker == 0) sent += sizeof(Message) + last;
          if (feedback) {
            for (std::size_t i = 0; i < x.size(); ++i) rest[i] -= x[i];
          }
        } else if (worker == 0) {
          sent += sizeof(Message) + sizeof(float) * x.size();
        }
        if (worker == 0) sum.assign(x.size(), 0);
        for (std::size_t i = 0; i < x.size(); ++i) sum[i] = worker ? sum[i] + x[i] : x[i];
      }
      const std::span<float> w = part(parameters);
      for (std::size_t i = 0; i < w.size(); ++i) w[i] -= rate * sum[i];
    }
    if (plain) {
      told.clear();
    } else if (told.empty()) {
      told = parameters;
    } else {
      for (std::uint32_t server = 0; server < servers; ++server) {
        const Range own = dense_range(count, servers, server);
        if (own.length == 0) continue;
        std::vector<float> difference(own.length);
        for (std::size_t i = 0; i < own.length; ++i) {
          difference[i] = parameters[own.start + i] - told[own.start + i];
        }
        const std::vector<float> news = through(difference);
        for (std::size_t i = 0; i < own.length; ++i) told[own.start + i] += news[i];
      }
    }
  }
  const std::vector<float>& seen() const { return told.empty() ? parameters : told; }
};

}  // namespace

TEST(workers_see_what_a_sequential_model_of_frames_says_bit_for_bit) {
  for (const Spec& spec : kSpecs) {
    for (const bool feedback : {true, false}) {
      for (const int workers : {1, 3}) {
        for (const int servers : {1, 3}) {
          for (const std::size_t count : {std::size_t{2}, std::size_t{1000}, std::size_t{40'001}}) {
            if (count > 10'000 && (workers == 1 || servers == 1)) continue;
            const int steps = count > 10'000 ? 4 : 8;
            const TableSpec table = coded(dense(count), spec, feedback);
            Cluster{workers, servers, {table}}.run([&](Client& client, int worker, Transport&) {
              Model model{
                  spec, feedback, count, static_cast<std::uint32_t>(servers),
                  std::vector(static_cast<std::size_t>(workers), std::vector<float>(count, 0))};
              std::vector<float> seen(count);
              for (int step = 0; step < steps; ++step) {
                const bool plain = step < 2 || step == 6;
                std::vector<std::vector<float>> all;
                for (int w = 0; w < workers; ++w) all.push_back(gradient_of(w, step, count));
                client.push(0, 0.125f, all[static_cast<std::size_t>(worker)], seen, plain);
                client.settle(soon());
                model.step(all, 0.125f, plain);
                CHECK(seen == model.seen());
              }
              if (worker == 0) CHECK(client.sent_bytes() == model.sent);
              const auto& mine = model.residuals[static_cast<std::size_t>(worker)];
              if (feedback) CHECK(client.feedback(0).residual == mine);
              client.leave(soon());
            });
          }
        }
      }
    }
  }
}

TEST(what_workers_were_told_is_what_servers_believe_whatever_the_schedule) {
  constexpr int kWorkers = 4;
  constexpr std::size_t kCount = 400;
  for (const Consistency consistency : {Consistency::asp, Consistency::ssp, Consistency::bsp}) {
    for (unsigned seed = 0; seed < 6; ++seed) {
      const Spec spec{.codec = CodecId::top_k, .amount = 0.2};
      std::atomic<int> done{0};
      Cluster{kWorkers, 2, {coded(dense(kCount, consistency, 2), spec)}}.run(
          [&](Client& client, int worker, Transport&) {
            std::mt19937 random(seed * 100 + static_cast<unsigned>(worker));
            std::vector<float> gradient(kCount), seen(kCount), second(kCount), exact(kCount);
            for (int step = 0; step < 30; ++step) {
              for (float& value : gradient) value = static_cast<float>(random() % 17) - 8;
              client.push(0, 0.5f, gradient,
                          random() % 2 ? std::span<float>(seen) : std::span<float>());
              if (random() % 2) client.pull(0, seen, random() % 5 == 0);
              if (random() % 3 == 0) client.pull(0, second);
              if (random() % 3 == 0) client.settle(soon());
              if (random() % 4 == 0)
                std::this_thread::sleep_for(std::chrono::microseconds(random() % 200));
            }
            client.settle(soon());
            ++done;
            while (done < kWorkers) std::this_thread::sleep_for(1ms);
            // each pull brings the largest fifth of what was not told yet
            for (int i = 0; i < 12; ++i) {
              client.pull(0, seen);
              client.settle(soon());
            }
            client.pull(0, exact, true);
            client.settle(soon());
            CHECK(seen == exact);
            client.leave(soon());
          });
    }
  }
}

TEST(a_table_that_was_written_or_read_is_told_anew_and_feedback_goes_on) {
  const Spec spec{.codec = CodecId::int4};
  TableSpec table = coded(dense(100), spec);
  table.rule = {.id = RuleId::momentum, .momentum = 0.9};
  Cluster{1, 1, {table}}.run([&](Client& client, int, Transport&) {
    std::vector<float> seen(100);
    const auto push = [&](int step) {
      client.push(0, 0.5f, gradient_of(0, step, 100), seen);
      client.settle(soon());
    };
    for (int step = 0; step < 5; ++step) push(step);
    std::vector<float> kept(200);  // with the optimiser's state
    const Client::Share share = client.read(0, 0, {0, 100}, kept, soon());
    const Client::Feedback feedback = client.feedback(0);
    CHECK(feedback.pushes == 5);
    CHECK(seen != std::vector<float>(kept.begin(), kept.begin() + 100));
    push(5);
    const std::vector<float> once = seen;
    push(6);
    const std::vector<float> twice = seen;
    client.write(0, 0, {0, 100}, kept, {share.updates, 0}, soon());
    client.resume_at(0, 0);
    client.set_feedback(0, feedback);
    push(5);
    CHECK(seen == once);
    push(6);
    CHECK(seen == twice);
    CHECK(contains(failure_of([&] { client.set_feedback(0, {std::vector<float>(3), 0}); }),
                   "has 100 elements, and not 3"));
    client.leave(soon());
  });
}

TEST(rows_travel_as_frames) {
  for (const Spec spec : {Spec{.codec = CodecId::fp16}, Spec{.codec = CodecId::int8},
                          Spec{.codec = CodecId::int8, .stochastic = true}}) {
    Cluster{2, 3, {coded(rows(5000, 3), spec)}}.run([&](Client& client, int worker, Transport&) {
      std::mt19937 random(static_cast<unsigned>(worker));
      std::vector<float> sums(15'000, 0);
      for (int step = 0; step < 8; ++step) {
        std::vector<std::uint64_t> keys;
        std::vector<float> gradients;
        for (int w = 0; w < 2; ++w) {
          std::mt19937 own(static_cast<unsigned>(step / 2 * 2 + w));  // key sets come again
          const std::size_t n = step == 4 ? 0 : 1 + own() % 300;
          std::vector<std::uint64_t> chosen(n);
          std::vector<float> values(3 * n);
          for (auto& key : chosen) key = own() % 5000;
          for (auto& value : values) value = static_cast<float>(own() % 9) - 4;
          for (std::size_t i = 0; i < values.size(); ++i) {
            sums[chosen[i / 3] * 3 + i % 3] -= 0.5f * values[i];
          }
          if (w == worker) {
            keys = chosen;
            gradients = values;
          }
        }
        client.push_rows(0, 0.5f, keys, gradients);
        std::vector<float> seen(3 * keys.size());
        client.pull_rows(0, keys, seen);
        client.settle(soon());
        for (std::size_t i = 0; i < seen.size(); ++i) {
          const float right = sums[keys[i / 3] * 3 + i % 3];
          CHECK(std::abs(seen[i] - right) <= 0.5f + 0.02f * static_cast<float>(step));
        }
      }
      client.leave(soon());
    });
  }
}

TEST(a_damaged_frame_is_refused_and_the_server_goes_on) {
  const Spec spec{.codec = CodecId::int8};
  const auto counts = Cluster{1, 1, {coded(dense(100), spec), dense(100)}}.run(
      [&](Client& client, int, Transport& transport) {
        std::mt19937 random(3);
        const std::vector<float> gradient = gradient_of(0, 0, 100);
        std::vector<std::byte> frame(frame_bound(spec, 100));
        frame.resize(encode_frame(spec, gradient, {}, frame));
        std::uint32_t number = 600;
        const auto refused = [&](Message head, std::span<const std::byte> body) {
          head.request = ++number % kUnderWay;
          head.bytes = body.size();
          std::vector<std::byte> bytes(sizeof head + body.size());
          write_header(head, bytes);
          std::ranges::copy(body, bytes.begin() + sizeof head);
          std::vector<std::byte> came(sizeof head + kInline);
          Request send, receive;
          transport.receive(receive, 1, tag_of(Leg::answer, head.request), came);
          receive.shorter = true;
          transport.send(send, 1, tag_of(Leg::request, 0), bytes);
          transport.wait(send, soon());
          transport.wait(receive, soon());
          Message answer;
          CHECK(read_header(std::span(came).first(receive.arrived), answer));
          return answer.status == Status::refused;
        };
        const Message push{.verb = Verb::push, .flags = Message::kFrame, .count = 100, .rate = 1};
        for (int round = 0; round < 300; ++round) {
          std::vector<std::byte> damaged = frame;
          if (round % 3 == 0) {
            damaged.resize(random() % frame.size());
          } else {
            damaged[random() % frame.size()] ^= static_cast<std::byte>(1 + random() % 255);
          }
          CHECK(refused(push, damaged));
        }
        Message foreign = push;
        foreign.table = 1;
        CHECK(refused(foreign, frame));
        Message pull{.verb = Verb::pull, .flags = Message::kTakesFrames, .table = 1, .count = 100};
        CHECK(refused(pull, {}));
        CHECK(!refused(push, frame));  // the first step is still to come
        client.resume_at(0, 1);
        std::vector<float> seen(100);
        client.pull(0, seen);
        client.settle(soon());
        CHECK(seen != std::vector<float>(100, 0));
        client.leave(soon());
      });
  CHECK(counts[0].refused == 302);
}
