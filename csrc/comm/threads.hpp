// Ranks as threads of one process: for unit tests and for running sanitizers over the algorithms.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "comm/transport.hpp"

namespace mls {

// The mailboxes of all pairs of ranks. Outlives its transports through the shared pointer.
class ThreadWorld : public std::enable_shared_from_this<ThreadWorld> {
 public:
  explicit ThreadWorld(int size);
  int size() const { return size_; }
  std::unique_ptr<Transport> transport(int rank);

 private:
  friend class ThreadTransport;
  struct Message {
    int tag;
    std::vector<std::byte> bytes;
  };
  struct Mailbox {
    std::mutex mutex;
    std::condition_variable arrived;
    std::deque<Message> messages;
  };

  Mailbox& mailbox(int from, int to) {
    return mailboxes_[static_cast<std::size_t>(from * size_ + to)];
  }

  int size_;
  std::vector<Mailbox> mailboxes_;
};

}  // namespace mls
