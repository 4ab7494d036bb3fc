#include "comm/clocks.hpp"

#include <span>

#include "comm/story.hpp"

namespace mls {
namespace {

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
      .count();
}

}  // namespace

std::vector<Echo> exchange_clocks(Transport& transport, int turns, const Options& options) {
  Story story("comparison of clocks", transport, options, 0);
  std::vector<Echo> echoes;
  std::int64_t time = 0;
  const std::span<std::byte> message = std::as_writable_bytes(std::span(&time, 1));
  Flights flights(transport, 2);
  const auto tag = [&](int turn) {
    return Tag(Channel::clocks, story.sequence(), static_cast<std::uint64_t>(turn));
  };
  const auto send = [&](int peer, int turn) {
    transport.send(flights[0], peer, tag(turn), message);
    transport.wait(flights[0], story.deadline());
  };
  const auto receive = [&](int peer, int turn) {
    transport.receive(flights[1], peer, tag(turn), message);
    transport.wait(flights[1], story.deadline());
  };
  story.tell([&] {
    const int peers = transport.rank() == 0 ? transport.size() : 0;
    for (int peer = 1; peer < peers; ++peer) {
      for (int turn = 0; turn < turns; ++turn) {
        receive(peer, turn);
        time = now();
        send(peer, turn);
      }
    }
    for (int turn = 0; transport.rank() != 0 && turn < turns; ++turn) {
      const std::int64_t sent = now();
      send(0, turn);
      receive(0, turn);
      echoes.push_back({sent, time, now()});
    }
  });
  return echoes;
}

}  // namespace mls
