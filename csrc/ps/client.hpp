// A worker's side of the parameter servers: several requests under way at a time, to all servers
// at once.
//
// Guarantees: values arrive in the caller's arrays during settle() only, so that a backward pass
// may still read parameters that were asked for. A request that a server refuses fails alone: the
// others are completed, and then settle() throws. Refusals: one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/collectives.hpp"
#include "comm/transport.hpp"
#include "ps/buffer.hpp"
#include "ps/coding.hpp"
#include "ps/message.hpp"
#include "ps/table.hpp"
#include "store/snapshot.hpp"

namespace mls {

class Client {
 public:
  // servers: their ranks in the transport, in their order. patience: how long a pull waits at a
  // server for other workers before the server says whom it waits for.
  // worker: this one's number among the workers; pulls of hot rows are spread by it.
  Client(Transport& transport, std::vector<TableSpec> tables, std::vector<int> servers,
         std::chrono::duration<double> patience, int worker = 0);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Gradients of a dense table; `into`, unless it is empty, gets its parameters once they are as
  // new as consistency demands. Both must stay as they are until settle() has returned. plain: as
  // float32, whatever the table's codec.
  void push(std::size_t table, float rate, std::span<const float> gradient, std::span<float> into,
            bool plain = false);
  void pull(std::size_t table, std::span<float> into, bool plain = false);

  // The same of rows by their numbers: width floats for each. Repeated rows are summed.
  void push_rows(std::size_t table, float rate, std::span<const std::uint64_t> rows,
                 std::span<const float> gradients);
  void pull_rows(std::size_t table, std::span<const std::uint64_t> rows, std::span<float> into);

  // Completes all requests. Throws Failure: config for what a server refuses, timeout.
  void settle(Deadline deadline);

  // Gives up what is under way, which breaks the transport.
  void give_up() noexcept;

  // Tells the servers that this worker is done. Completes all requests.
  void leave(Deadline deadline);

  // Entries of a server's share with the optimiser's state, see Table::save; and back.
  struct Share {
    std::uint64_t updates = 0;
    std::uint64_t steps = 0;
  };
  Share read(std::size_t table, std::uint32_t server, Range range, std::span<float> into,
             Deadline deadline);
  void write(std::size_t table, std::uint32_t server, Range range, std::span<const float> from,
             Share share, Deadline deadline);

  // Nobody waits for pushes of this worker, which makes none.
  void observe(Deadline deadline);

  // Begins a snapshot of a server's share, or of what has changed in it since so many updates, once
  // it is as new as consistency demands. The next piece of it is nothing when all has come, or it
  // was dropped.
  struct Begun {
    std::uint64_t number = 0;
    std::uint64_t updates = 0;  // that the share has had
  };
  Begun snapshot(std::size_t table, std::uint32_t server, std::optional<std::uint64_t> since,
                 Deadline deadline);
  std::optional<Piece> piece(std::size_t table, std::uint32_t server, std::uint64_t number,
                             Deadline deadline);
  void drop(std::size_t table, std::uint32_t server, std::uint64_t number, Deadline deadline);

  // Elements or slots of a server's share.
  std::uint64_t share(std::size_t table, std::uint32_t server) const;

  // Starts counting at so many steps of a table: those that the servers count as pushed.
  void resume_at(std::size_t table, std::uint64_t steps) { steps_[table] = steps; }
  std::uint64_t steps(std::size_t table) const { return steps_[table]; }

  // What compressed pushes of a table have left out so far, and how many there were: the state of
  // error feedback. An array without elements is all zeros.
  struct Feedback {
    std::vector<float> residual;
    std::uint64_t pushes = 0;
  };
  const Feedback& feedback(std::size_t table) const { return coding_.at(table).feedback; }
  void set_feedback(std::size_t table, Feedback feedback);

  const std::vector<TableSpec>& tables() const { return tables_; }
  std::uint32_t servers() const { return static_cast<std::uint32_t>(ranks_.size()); }

  // How many pulls found the slowest worker 0, 1, 2 ... steps behind; the last counts all above.
  using Histogram = std::array<std::uint64_t, 17>;
  const Histogram& staleness() const { return staleness_; }

  std::uint64_t sent_bytes() const { return sent_; }

 private:
  struct Call;

  // What is kept of a table whose values travel as frames.
  struct Coding {
    Feedback feedback = {};
    std::vector<float> told = {};  // what the servers have told, as they know it
  };

  // Where rows of a request are.
  struct Split {
    std::vector<std::vector<std::uint32_t>> slots;      // by server
    std::vector<std::vector<std::uint32_t>> positions;  // in the caller's order
  };

  void begin_request();
  void tell_all(Verb verb, Deadline deadline);
  Message about_snapshot(std::size_t table, Verb verb, std::uint64_t number);
  Call& call(std::uint32_t server, Message head, std::span<const std::byte> values,
             Buffer owned = {});
  void check_rows(std::size_t table, std::span<const std::uint64_t> rows, std::size_t floats) const;
  Split split(std::size_t table, Verb verb, std::span<const std::uint64_t> rows) const;
  void request_rows(std::size_t table, Verb verb, float rate, std::span<const std::uint64_t> rows,
                    std::span<const float> gradients, std::span<float> into);
  Buffer encoded(std::size_t table, std::span<const float> gradient, std::uint32_t server);
  std::size_t floats_of(const Call& call) const;
  std::span<float> told(const Call& call);
  bool poll(Call& call);
  void hear(Call& call);
  bool must_wait(const Call& call) const;
  void finish(Call& call);
  void decode(Call& call);

  // The keys that servers know of this worker, as they keep them.
  struct KeySets {
    std::vector<std::uint64_t> digests;
    std::uint16_t next = 0;
  };

  Transport& transport_;
  const std::vector<TableSpec> tables_;
  const std::vector<int> ranks_;
  const int worker_;
  std::vector<std::uint64_t> steps_;        // pushed, by table
  std::vector<std::vector<KeySets>> keys_;  // by table and server
  std::vector<Coding> coding_;              // by table
  std::vector<Replicas> replicas_;          // by table
  std::list<Call> calls_;
  Pool pool_;
  Histogram staleness_{};
  std::uint64_t sent_ = 0;
  std::uint32_t requests_ = 0;
  const std::uint32_t patience_ms_;
  std::optional<Failure> failure_;
};

}  // namespace mls
