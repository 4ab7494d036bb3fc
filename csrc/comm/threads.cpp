#include "comm/threads.hpp"

#include <algorithm>

namespace mls {

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(std::shared_ptr<ThreadWorld> world, int rank)
      : Transport(rank, world->size()), world_(std::move(world)) {}

  void send(Request& request, int peer, Tag tag, std::span<const std::byte> bytes) override {
    ThreadWorld::Mailbox& box = world_->mailbox(rank(), peer);
    {
      const std::lock_guard lock(box.mutex);
      box.messages.push_back({tag.value, {bytes.begin(), bytes.end()}});
    }
    box.arrived.notify_all();
    request.kind = Request::Kind::none;  // the bytes are copied
  }

  void receive(Request& request, int peer, Tag tag, std::span<std::byte> bytes) override {
    request = {.kind = Request::Kind::receive, .peer = peer, .tag = tag.value, .bytes = bytes};
  }

  void wait(Request& request, Deadline deadline) override {
    if (request.kind == Request::Kind::none) return;
    // short waits, so that abandon() is noticed
    constexpr auto kAWhile = std::chrono::milliseconds(5);
    while (!arrived(request, std::min(deadline, Clock::now() + kAWhile))) {
      keep_waiting(request, deadline);
    }
    request.kind = Request::Kind::none;
  }

  bool test(Request& request) override {
    if (request.kind == Request::Kind::none) return true;
    if (!arrived(request, {})) return false;
    request.kind = Request::Kind::none;
    return true;
  }

  std::optional<Arrival> probe(Tag tag) override {
    for (int step = 1; step <= size(); ++step) {
      const int peer = (probed_ + step) % size();
      ThreadWorld::Mailbox& box = world_->mailbox(peer, rank());
      const std::lock_guard lock(box.mutex);
      for (const ThreadWorld::Message& message : box.messages) {
        if (message.tag != tag.value) continue;
        probed_ = peer;
        return Arrival{peer, message.bytes.size()};
      }
    }
    return std::nullopt;
  }

 private:
  // Takes the message out of its mailbox, or waits until then at most.
  bool arrived(Request& request, Deadline until) {
    ThreadWorld::Mailbox& box = world_->mailbox(request.peer, rank());
    std::unique_lock lock(box.mutex);
    const auto found =
        std::find_if(box.messages.begin(), box.messages.end(),
                     [&](const auto& message) { return message.tag == request.tag; });
    if (found == box.messages.end()) {
      if (until != Deadline{}) box.arrived.wait_until(lock, until);
      return false;
    }
    check_length(request, found->bytes.size());
    std::copy(found->bytes.begin(), found->bytes.end(), request.bytes.begin());
    box.messages.erase(found);
    return true;
  }

  bool take_back(Request&) noexcept override { return true; }  // bytes are written by wait only

  std::shared_ptr<ThreadWorld> world_;
  int probed_ = 0;  // whom the last probe found
};

ThreadWorld::ThreadWorld(int size)
    : size_(size), mailboxes_(static_cast<std::size_t>(size) * static_cast<std::size_t>(size)) {}

std::unique_ptr<Transport> ThreadWorld::transport(int rank) {
  return std::make_unique<ThreadTransport>(shared_from_this(), rank);
}

}  // namespace mls
