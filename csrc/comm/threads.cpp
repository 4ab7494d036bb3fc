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
    while (!arrived(request, deadline)) keep_waiting(request, deadline);
    request.kind = Request::Kind::none;
  }

 private:
  // Takes the message out of its mailbox, or waits for a while.
  bool arrived(Request& request, Deadline deadline) {
    ThreadWorld::Mailbox& box = world_->mailbox(request.peer, rank());
    std::unique_lock lock(box.mutex);
    const auto found =
        std::find_if(box.messages.begin(), box.messages.end(),
                     [&](const auto& message) { return message.tag == request.tag; });
    if (found == box.messages.end()) {
      // short, so that abandon() is noticed
      box.arrived.wait_until(lock, std::min(deadline, Clock::now() + std::chrono::milliseconds(5)));
      return false;
    }
    check_length(request, found->bytes.size());
    std::copy(found->bytes.begin(), found->bytes.end(), request.bytes.begin());
    box.messages.erase(found);
    return true;
  }

  bool take_back(Request&) noexcept override { return true; }  // bytes are written by wait only

  std::shared_ptr<ThreadWorld> world_;
};

ThreadWorld::ThreadWorld(int size)
    : size_(size), mailboxes_(static_cast<std::size_t>(size) * static_cast<std::size_t>(size)) {}

std::unique_ptr<Transport> ThreadWorld::transport(int rank) {
  return std::make_unique<ThreadTransport>(shared_from_this(), rank);
}

}  // namespace mls
