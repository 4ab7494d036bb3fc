// Requests that are wrong, repeated or cut off: a server refuses them and goes on. Run under the
// sanitizers.
#include <cstring>
#include <random>
#include <thread>

#include "ps_cluster.hpp"

using namespace mls;
using namespace std::chrono_literals;
using test::Cluster;
using test::contains;
using test::dense;
using test::rows;
using test::soon;

namespace {

void send_bytes(Transport& transport, int rank, Tag tag, std::span<const std::byte> bytes) {
  Request request;
  transport.send(request, rank, tag, bytes);
  transport.wait(request, soon());
}

Message answer_of(Transport& transport, int rank, std::uint32_t number, std::string& text) {
  std::vector<std::byte> bytes(sizeof(Message) + kInline);
  Request request;
  transport.receive(request, rank, tag_of(Leg::answer, number), bytes);
  request.shorter = true;
  transport.wait(request, soon());
  Message answer;
  CHECK(read_header(std::span(bytes).first(request.arrived), answer));
  text.assign(reinterpret_cast<const char*>(bytes.data()) + sizeof answer,
              request.arrived - sizeof answer);
  return answer;
}

}  // namespace

TEST(requests_that_are_wrong_are_refused_and_the_server_goes_on) {
  const auto counts = Cluster{1, 1, {dense(1000), rows(100, 4)}}.run(
      [&](Client& client, int, Transport& transport) {
        std::mt19937 random(5);
        const Tag tag = tag_of(Leg::request, 0);
        for (int round = 0; round < 2000; ++round) {
          Message head{.verb = Verb::pull, .request = 500, .count = 1000, .patience_ms = 1000};
          std::vector<std::byte> bytes(sizeof head + random() % 64);
          write_header(head, bytes);
          if (round % 2) {  // cut short
            bytes.resize(random() % sizeof head);
          } else {
            bytes[random() % sizeof head] ^= static_cast<std::byte>(1 + random() % 255);
          }
          send_bytes(transport, 1, tag, bytes);
        }
        const std::vector<std::byte> huge(1 << 20);
        send_bytes(transport, 1, tag, huge);
        struct Wrong {
          Message head;
          std::size_t along;
          const char* told;
        };
        const std::vector<Wrong> all{
            {{.table = 9, .count = 1000}, 0, "no table 9"},
            {{.count = 999, .bytes = 3996}, 3996, "has 1000 elements here, not 999"},
            {{.count = 1000, .bytes = 4000}, 3999, "cut short"},
            {{.count = 1000, .bytes = 400}, 400, "is not the size"},
            {{.step = 7, .count = 1000, .bytes = 4000}, 4000, "not the worker's next"},
            {{.verb = Verb::read, .count = 10, .start = 995}, 0, "has 1000 entries here"},
            {{.verb = Verb::read, .count = ~0ull, .start = 1}, 0, "has 1000 entries here"},
            {{.verb = Verb::pull, .table = 1, .entry = 999, .count = 1}, 4, "no key set 999"},
            {{.verb = Verb::pull, .table = 1, .count = ~0ull}, 0, "too many keys"},
            {{.verb = Verb::pull, .table = 1, .count = 1, .bytes = 4, .digest = 1},
             4,
             "not those of its digest"},
            {{.verb = Verb::pull, .flags = Message::kKnownKeys, .table = 1, .count = 1},
             0,
             "not known here"},
        };
        std::uint32_t number = 600;
        for (const Wrong& wrong : all) {
          Message head = wrong.head;
          head.request = ++number;
          std::vector<std::byte> bytes(sizeof head + wrong.along);
          write_header(head, bytes);
          send_bytes(transport, 1, tag, bytes);
          std::string text;
          const Message answer = answer_of(transport, 1, number, text);
          CHECK(answer.status == Status::refused);
          CHECK(contains(text, wrong.told));
        }
        const std::uint32_t beyond = 100;
        Message head{.verb = Verb::pull, .table = 1, .request = 700, .count = 1, .bytes = 4};
        head.digest = digest_of({&beyond, 1});
        std::vector<std::byte> bytes(sizeof head + 4);
        write_header(head, bytes);
        std::memcpy(bytes.data() + sizeof head, &beyond, 4);
        send_bytes(transport, 1, tag, bytes);
        std::string text;
        CHECK(answer_of(transport, 1, 700, text).status == Status::refused);
        CHECK(contains(text, "one of its keys is beyond"));

        std::vector<float> seen(1000);
        client.push(0, 1.0f, std::vector<float>(1000, -1.0f), seen);
        client.settle(soon());
        for (const float value : seen) CHECK(value == 1.0f);
        client.leave(soon());
      });
  CHECK(counts[0].refused >= 2000 + 12 && counts[0].pushes == 2);
}

TEST(a_push_that_is_repeated_counts_once) {
  Cluster{1, 1, {dense(8)}}.run([&](Client& client, int, Transport& transport) {
    const std::vector<float> one(8, -1.0f);
    client.push(0, 1.0f, one, {});
    client.settle(soon());
    const Message head{.request = 900, .step = 0, .count = 8, .bytes = 32, .rate = 1.0f};
    std::vector<std::byte> bytes(sizeof head + 32);
    write_header(head, bytes);
    std::memcpy(bytes.data() + sizeof head, one.data(), 32);
    send_bytes(transport, 1, tag_of(Leg::request, 0), bytes);
    std::string text;
    CHECK(answer_of(transport, 1, 900, text).status == Status::repeated);
    std::vector<float> seen(8);
    client.pull(0, seen);
    client.settle(soon());
    CHECK(seen == std::vector<float>(8, 1.0f));
    client.leave(soon());
  });
}

TEST(a_worker_that_disappears_in_a_push_has_sent_nothing) {
  constexpr std::size_t kCount = 1 << 20;  // four slices
  const auto counts = Cluster{2, 1, {dense(kCount, Consistency::asp)}}.run(
      [&](Client& client, int worker, Transport& transport) {
        if (worker == 1) {
          const Message head{.request = 5, .count = kCount, .bytes = 4 * kCount, .rate = 1.0f};
          std::vector<std::byte> bytes(sizeof head);
          write_header(head, bytes);
          send_bytes(transport, 2, tag_of(Leg::request, 0), bytes);
          const std::vector<std::byte> slice(kSlice, std::byte{0x3f});
          send_bytes(transport, 2, tag_of(Leg::up, 5), slice);
          client.leave(soon());
          return;
        }
        std::vector<float> seen(kCount);
        const std::vector<float> one(kCount, -1.0f);
        for (int step = 1; step <= 3; ++step) {
          client.push(0, 1.0f, one, seen);
          client.settle(soon());
          std::this_thread::sleep_for(150ms);
          CHECK(seen == std::vector<float>(kCount, static_cast<float>(step)));
        }
        client.leave(soon());
      },
      200ms);
  CHECK(counts[0].pushes == 3 && counts[0].refused == 1);
}
