// Ranks in a simulated network: a discrete-event transport under the algorithms of csrc/comm.
//
// Every rank is a fiber; whichever has the earliest simulated time runs. Nothing depends on the
// real clock, so that a simulation gives the same times whenever it is repeated. Where all ranks
// wait for messages that nobody sends, the waits fail: this takes the place of deadlines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <queue>
#include <span>
#include <vector>

#include "comm/cost.hpp"
#include "comm/transport.hpp"
#include "fiber.hpp"
#include "network.hpp"

namespace sim {

enum class Payload : std::uint8_t { carried, counted };  // counted: arrays keep what they had

struct Outcome {
  Time end = 0;                 // of the last rank
  std::vector<mls::Sent> sent;  // by each rank
};

class World {
 public:
  World(Network network, Payload payload);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // body(transport) on all ranks, from time 0 on; once. Throws what was thrown first.
  Outcome run(const std::function<void(mls::Transport&)>& body);

  // The world whose rank is running, null outside of run.
  static World* running();

  Time now() const { return now_; }

  // The running rank computes for this long.
  void spend(Time duration);

 private:
  friend class SimTransport;

  struct Message {
    int from = 0;
    int to = 0;
    int tag = 0;
    std::size_t length = 0;
    std::vector<std::byte> bytes;
    Path path = {};
    std::size_t hop = 0;  // the link that it reaches next
    Time tail = 0;        // when its last byte has left the last link
    bool arrived = false;
  };

  // A rank that goes on, or a message that reaches a link or its end.
  struct Event {
    Time time;
    std::uint64_t number;  // of two at the same time, the older one first
    int rank;
    Message* message;

    bool operator>(const Event& other) const {
      return time != other.time ? time > other.time : number > other.number;
    }
  };

  struct Rank {
    std::unique_ptr<mls::Transport> transport;
    std::unique_ptr<Fiber> fiber;
    std::vector<Message*> inbox;  // in the order in which they were sent
    int awaits_from = -1;
    int awaits_tag = 0;
    mls::Sent sent;
  };

  Rank& at(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  void schedule(Time time, int rank, Message* message);
  void go_on(int rank);
  void move(Message& message);
  void sleep_until(Time time);

  // When the message has left the sender.
  Time send(int from, int to, int tag, std::span<const std::byte> bytes);
  // Waits for it; null if it never comes. Give it back by release.
  Message* receive(int rank, int from, int tag);
  void release(Message* message);

  Network network_;
  const Payload payload_;
  std::vector<Rank> ranks_;
  std::deque<Message> messages_;
  std::vector<Message*> unused_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::uint64_t number_ = 0;
  Time now_ = 0;
  int current_ = -1;
  bool stuck_ = false;
};

}  // namespace sim
