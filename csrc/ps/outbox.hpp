// What a server has to send: answers, a few slices of which are under way to each worker at a
// time. Of several answers to a worker the most urgent goes first, slice by slice (P3: Jayarajan
// et al. 2019).
#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "comm/transport.hpp"
#include "ps/buffer.hpp"
#include "ps/message.hpp"

namespace mls {

class Outbox {
 public:
  Outbox(Transport& transport, Pool& pool) : transport_(transport), pool_(pool) {}
  ~Outbox();
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

  struct Answer;

  // Sends a header, and values in the same message if they are few.
  void send(int rank, Message head, std::span<const std::byte> values = {});

  // Sends a header and then slices of values, up to as many bytes as are ready. They are the
  // answer's own, or else stay as they are until settle() has returned.
  Answer& start(int rank, Message head, std::span<const std::byte> values, std::size_t table,
                std::uint32_t urgency);
  Answer& start_own(int rank, Message head, Buffer values, std::uint32_t urgency);
  void start(int rank, Message head, Buffer values, std::uint32_t urgency);
  void ready(Answer& answer, std::size_t bytes);

  // Sends what may be sent; whether anything happened.
  bool poll();

  // Waits until memory of a table is no longer used; gives up what a worker does not receive.
  void settle(std::size_t table, Deadline deadline);

  bool empty() const { return answers_.empty() && small_.empty(); }

  struct Answer {
    int rank;
    std::uint32_t request;
    std::span<const std::byte> values;
    std::size_t ready = 0;  // bytes
    std::size_t sent = 0;
    std::uint32_t urgency;
    std::size_t table;  // whose memory this is, or kOwn
    Buffer own;
    std::vector<Request> flights;
  };

 private:
  static constexpr std::size_t kOwn = ~std::size_t{0};
  static constexpr std::size_t kFlights = 4;  // slices under way to a worker

  struct Small {
    Buffer memory;
    Request request;
  };

  void pump();

  Transport& transport_;
  Pool& pool_;
  std::list<Answer> answers_;
  std::list<Small> small_;
};

}  // namespace mls
