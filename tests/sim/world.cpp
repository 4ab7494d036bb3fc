#include "world.hpp"

#include <algorithm>
#include <utility>

namespace sim {
namespace {

World*& running_world() {
  static World* world = nullptr;
  return world;
}

}  // namespace

class SimTransport final : public mls::Transport {
 public:
  SimTransport(World& world, int rank) : Transport(rank, world.network_.size()), world_(world) {
    place(world.network_.nodes());
  }

  void send(mls::Request& request, int peer, mls::Tag tag,
            std::span<const std::byte> bytes) override {
    request = {.kind = mls::Request::Kind::send, .peer = peer, .tag = tag.value, .bytes = {}};
    request.handle = static_cast<std::uintptr_t>(world_.send(rank(), peer, tag.value, bytes));
  }

  void receive(mls::Request& request, int peer, mls::Tag tag, std::span<std::byte> bytes) override {
    request = {.kind = mls::Request::Kind::receive, .peer = peer, .tag = tag.value, .bytes = bytes};
  }

  void wait(mls::Request& request, mls::Deadline) override {
    if (request.kind == mls::Request::Kind::none) return;
    if (request.kind == mls::Request::Kind::send) {
      world_.sleep_until(static_cast<Time>(request.handle));
    } else {
      World::Message* const message = world_.receive(rank(), request.peer, request.tag);
      if (!message) fail(mls::FailureKind::timeout, request, "all ranks wait for messages");
      check_length(request, message->length);
      std::ranges::copy(message->bytes, request.bytes.begin());
      world_.release(message);
    }
    request.kind = mls::Request::Kind::none;
  }

 private:
  bool take_back(mls::Request&) noexcept override {
    return true;
  }  // bytes are written by wait only

  World& world_;
};

World::World(Network network, Payload payload)
    : network_(std::move(network)),
      payload_(payload),
      ranks_(static_cast<std::size_t>(network_.size())) {}

World::~World() = default;

World* World::running() { return running_world(); }

Outcome World::run(const std::function<void(mls::Transport&)>& body) {
  Outcome outcome;
  std::exception_ptr error;
  for (int rank = 0; rank < network_.size(); ++rank) {
    at(rank).transport = std::make_unique<SimTransport>(*this, rank);
    at(rank).fiber = std::make_unique<Fiber>([&, rank] {
      try {
        body(*at(rank).transport);
      } catch (...) {
        if (!error) error = std::current_exception();
      }
      outcome.end = std::max(outcome.end, now_);
    });
    schedule(0, rank, nullptr);
  }
  running_world() = this;
  while (!events_.empty()) {
    const Event event = events_.top();
    events_.pop();
    now_ = event.time;
    if (event.message) {
      move(*event.message);
    } else {
      go_on(event.rank);
    }
  }
  stuck_ = true;
  for (int rank = 0; rank < network_.size(); ++rank) {
    while (!at(rank).fiber->ended()) go_on(rank);
  }
  running_world() = nullptr;
  if (error) std::rethrow_exception(error);
  for (const Rank& rank : ranks_) outcome.sent.push_back(rank.sent);
  return outcome;
}

void World::spend(Time duration) { sleep_until(now_ + duration); }

void World::schedule(Time time, int rank, Message* message) {
  events_.push({time, number_++, rank, message});
}

void World::go_on(int rank) {
  current_ = rank;
  at(rank).fiber->resume();
}

// The head of the message reaches the next link, or its tail the end.
void World::move(Message& message) {
  if (message.hop == message.path.length) {
    message.arrived = true;
    Rank& rank = at(message.to);
    if (rank.awaits_from == message.from && rank.awaits_tag == message.tag) go_on(message.to);
    return;
  }
  Link& link = network_.link(message.path.links[message.hop]);
  const Time start = std::max(now_, link.free);
  link.free = std::max(start + static_cast<Time>(message.length) * link.per_byte, message.tail);
  message.tail = link.free + link.latency;
  const bool last = ++message.hop == message.path.length;
  schedule(last ? message.tail : start + link.latency, message.to, &message);
}

void World::sleep_until(Time time) {
  if (time <= now_ || stuck_) return;
  schedule(time, current_, nullptr);
  at(current_).fiber->pause();
}

Time World::send(int from, int to, int tag, std::span<const std::byte> bytes) {
  if (unused_.empty()) unused_.push_back(&messages_.emplace_back());
  Message* const message = unused_.back();
  unused_.pop_back();
  *message = {.from = from,
              .to = to,
              .tag = tag,
              .length = bytes.size(),
              .bytes = {},
              .path = network_.path(from, to)};
  if (payload_ == Payload::carried) message->bytes.assign(bytes.begin(), bytes.end());
  at(to).inbox.push_back(message);
  at(from).sent += {1, bytes.size()};
  move(*message);
  return network_.link(message->path.links[0]).free;
}

World::Message* World::receive(int rank, int from, int tag) {
  Rank& own = at(rank);
  while (!stuck_) {
    const auto found = std::ranges::find_if(own.inbox, [&](const Message* message) {
      return message->from == from && message->tag == tag;
    });
    if (found != own.inbox.end() && (*found)->arrived) {
      Message* const message = *found;
      own.inbox.erase(found);
      return message;
    }
    own.awaits_from = from;
    own.awaits_tag = tag;
    own.fiber->pause();
    own.awaits_from = -1;
  }
  return nullptr;
}

void World::release(Message* message) { unused_.push_back(message); }

}  // namespace sim
