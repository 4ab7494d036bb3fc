#include "comm/agree.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <type_traits>
#include <vector>

#include "comm/cost.hpp"
#include "comm/halving.hpp"
#include "comm/swap.hpp"

namespace mls {
namespace {

static_assert(std::is_trivially_copyable_v<Known> && sizeof(Known) == kHeaderBytes);

// The messages of one agreement, and what this rank knows by now.
class Talk {
 public:
  // longest: bytes of what this rank sends along.
  Talk(const Wire& wire, const Known& own, std::size_t longest)
      : wire_(wire),
        known_(own),
        out_(wire.transport, kHeaderBytes + longest),
        in_(wire.transport, kHeaderBytes + kMostAlong) {}

  const Known& known() const { return known_; }

  void tell(int peer, std::span<const std::byte> along) { talk(peer, &along, false); }

  // What came along, `length` bytes, until the next message; nothing unless all are alike.
  std::span<const std::byte> hear(int peer, std::size_t length) {
    return along(talk(peer, nullptr, true), length);
  }

  std::span<const std::byte> exchange(int peer, std::span<const std::byte> sent,
                                      std::size_t length) {
    return along(talk(peer, &sent, true), length);
  }

 private:
  // Returns the bytes that arrived.
  std::size_t talk(int peer, const std::span<const std::byte>* told, bool hears) {
    // Not with the number, which is compared: messages of one peer keep their order.
    const Tag tag(Channel::agree, 0, 0);
    Transport& transport = wire_.transport;
    const int rank = wire_.group.rank_of(peer);
    Flights flights(transport, 2);
    try {
      if (hears) {
        transport.receive(flights[0], rank, tag, in_.part(0, kHeaderBytes + kMostAlong));
        flights[0].shorter = true;
      }
      if (told) transport.send(flights[1], rank, tag, message(*told));
      wire_.wait(flights[0]);
      wire_.wait(flights[1]);
    } catch (const Failure& failure) {
      throw failure.during("comparing what the ranks are about to do");
    }
    return flights[0].arrived;
  }

  std::span<const std::byte> message(std::span<const std::byte> along) {
    const std::size_t length = known_.alike() ? along.size() : 0;
    const std::span<std::byte> bytes = out_.part(0, kHeaderBytes + length);
    std::memcpy(bytes.data(), &known_, kHeaderBytes);
    std::ranges::copy(along.first(length), bytes.begin() + kHeaderBytes);
    return bytes;
  }

  std::span<const std::byte> along(std::size_t arrived, std::size_t length) {
    if (arrived < kHeaderBytes) refuse_message();
    Known news = known_;
    std::memcpy(&news, in_.part(0, kHeaderBytes).data(), kHeaderBytes);
    known_.add(news);
    if (!known_.alike()) return {};
    if (arrived != kHeaderBytes + length) refuse_message();
    return in_.part(kHeaderBytes, length);
  }

  [[noreturn]] static void refuse_message() {
    throw Failure(FailureKind::config, "a message came that is no agreement");
  }

  const Wire& wire_;
  Known known_;
  Scratch out_;
  Scratch in_;
};

// With no data the agreement alone.
void run(const Wire& wire, std::span<std::byte> data, const Combine& how, const Intent& intent,
         bool halves) {
  std::optional<Span> span(std::in_place, wire.transport.trace(), "agreement");
  const Folded folded{wire.rank(), wire.size()};
  Talk talk(wire, {intent, wire.sequence, wire.rank()}, data.size());
  if (folded.leaves()) {
    talk.tell(folded.partner(), data);
    std::ranges::copy(talk.hear(folded.partner(), data.size()), data.begin());
    return talk.known().judge();
  }
  const std::size_t element = size_of(how.dtype);
  std::vector<std::byte> sums(data.begin(), data.end());  // while ranks may still disagree
  const auto bytes_of = [&](Part part) {
    return std::span(sums).subspan(part.start * element, part.length * element);
  };
  if (folded.paired()) {
    combine_with(folded.partner() < wire.rank(), how, sums,
                 talk.hear(folded.partner(), sums.size()));
  }
  std::vector<Part> kept{{0, data.size() / element}};
  const int rounds = log2_of(folded.power());
  for (int round = 0; round < rounds; ++round) {
    const int peer = folded.peer(round);
    const Part whole = kept.back();
    const Part own = halves ? half_of(whole, folded.side(round)) : whole;
    const Part others = halves ? half_of(whole, 1 - folded.side(round)) : whole;
    const Span exchange(data.empty() ? nullptr : wire.transport.trace(), "exchange",
                        static_cast<std::uint32_t>(round + 1), others.length * element);
    combine_with(peer < wire.rank(), how, bytes_of(own),
                 talk.exchange(peer, bytes_of(others), own.length * element));
    kept.push_back(own);
  }
  span.reset();
  if (talk.known().alike()) {
    const std::span<std::byte> own = bytes_of(kept.back());
    if (how.divisor > 1) divide(how.dtype, own.data(), kept.back().length, how.divisor);
    std::ranges::copy(own, data.subspan(kept.back().start * element).begin());
    const auto step = static_cast<std::size_t>(rounds);
    if (halves) halving_all_gather(wire, data, how, kept, step, 2 * step);
  }
  if (folded.paired()) talk.tell(folded.partner(), data);
  talk.known().judge();
}

}  // namespace

void agree(Transport& transport, const Intent& intent, std::uint32_t sequence, Deadline deadline) {
  const Group all = Group::all(transport.rank(), transport.size());
  run({transport, all, Channel::agree, sequence, deadline, 0}, {}, {}, intent, false);
}

void agree_and_reduce(const Wire& wire, std::span<std::byte> data, const Combine& how,
                      const Intent& intent, Algorithm algorithm) {
  run(wire, data, how, intent, algorithm == Algorithm::halving);
}

}  // namespace mls
