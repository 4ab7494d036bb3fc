// The loop of a parameter server: receives, applies, answers. It runs without Python.
//
// Guarantees: what is wrong with a request is told to the worker that sent it, and nothing else
// happens; bytes that are no request are counted and passed over. A push is applied when all of it
// is there. A pull that must wait for other workers waits here, until its patience ends. Refusals:
// workers are trusted not to send more requests at a time than tags can tell apart.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "comm/transport.hpp"
#include "ps/coding.hpp"
#include "ps/kept.hpp"
#include "ps/message.hpp"
#include "ps/outbox.hpp"
#include "ps/shard.hpp"

namespace mls {

struct ServerPlace {
  std::uint32_t index = 0;  // among the servers
  std::uint32_t servers = 1;
  std::vector<int> workers = {};  // their ranks in the transport
};

class Server {
 public:
  Server(Transport& transport, std::vector<TableSpec> tables, ServerPlace place);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Serves until every worker has left, or stop() was called. `watch` is called now and then, and
  // may throw. timeout: longest time for the rest of a message that has begun to come.
  void run(std::chrono::duration<double> timeout, const std::function<void()>& watch);

  // From any thread.
  void stop() { stopped_.store(true, std::memory_order_relaxed); }

  struct Counts {
    std::uint64_t requests = 0;
    std::uint64_t refused = 0;  // requests, and bytes that are none
    std::uint64_t pushes = 0;
    std::uint64_t pulls = 0;
    std::uint64_t waiting = 0;  // pulls, now
  };
  Counts counts() const;

 private:
  // A request, some of which may still be coming.
  struct Coming {
    Message head;
    int worker;
    Buffer body;
    std::vector<Request> slices;
    Deadline deadline;
    std::string wrong = {};  // why it cannot be handled
  };

  struct Waiting {
    Message head;
    int worker;
    std::vector<std::uint32_t> slots;
    Deadline late_at;
    Outbox::Answer* answer = nullptr;  // that is being sent while the step is applied
  };

  struct Refusal {
    std::string why;
  };

  bool take_request();
  bool take_slices();
  void admit(Arrival from);
  bool runs_ahead(const Message& head);
  void drop(Coming& coming);
  void handle(int worker, const Message& head, Buffer body);
  void wait_for(int worker, const Message& head, std::vector<std::uint32_t> slots);
  void push(int worker, const Message& head, std::vector<std::uint32_t> slots, Buffer values);
  void answer_waiting(std::size_t table);
  void answer_late();
  void answer(const Waiting& waiting);
  void answer(int worker, const Message& head, Status status, const std::string& text);
  Table& table(std::size_t index);
  void keep_snapshot(const Waiting& waiting);
  KeptSnapshots::Place kept(int worker, const Message& head);
  void give_piece(int worker, const Message& head);
  void read_table(int worker, const Message& head);
  void write_table(const Message& head, const Buffer& body);
  void check(const Message& head) const;
  std::uint64_t entry_bytes(std::size_t table) const;
  // What may follow a request: keys, and then values.
  struct Extent {
    std::uint64_t keys = 0;
    std::uint64_t least = 0;  // of the values
    std::uint64_t most = 0;
  };
  Extent extent_of(const Message& head) const;
  Buffer values_of(const Message& head, Buffer body);
  std::vector<std::uint32_t> slots_of(int worker, const Message& head, const Buffer& body);
  std::string late_ones(const Waiting& waiting);

  struct KeySet {
    std::uint64_t digest = 0;
    std::vector<std::uint32_t> slots = {};
  };

  Transport& transport_;
  const ServerPlace place_;
  Shard shard_;
  Outbox outbox_;
  std::vector<int> worker_of_;             // by rank; -1 for others
  std::vector<std::vector<KeySet>> keys_;  // by worker
  std::list<Coming> coming_;
  std::vector<std::list<Waiting>> waiting_;  // by table
  std::vector<Told> told_;                   // by table
  KeptSnapshots kept_;
  Clock::duration timeout_{};
  Buffer request_;
  std::vector<bool> left_;  // by worker
  std::atomic<bool> stopped_{false};
  std::atomic<std::uint64_t> requests_{0}, refused_{0}, pushes_{0}, pulls_{0}, pending_{0};
};

// Key sets that a server remembers of each worker.
inline constexpr std::uint16_t kKeySets = 64;

// Of keys, to see that both sides mean the same set.
std::uint64_t digest_of(std::span<const std::uint32_t> slots);

}  // namespace mls
