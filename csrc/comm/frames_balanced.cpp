// Sparse all-reduce whose volume does not grow with the number of ranks, see frames.hpp.
//
//   1. every rank selects its k largest numbers, and sends each to the owner of its element: at
//      most 5k/4P to one owner, the largest of them
//   2. owners add up, select the 7k/4P largest sums, and send them to all ranks
//
// Blocks of all ranks have about k/P of the largest numbers, so few are left over in the first
// step; more of the sums can be told, which are of up to k elements of a part.
//
// What is not sent stays where it is: in the residual of the sender, or of the owner.
#include <algorithm>
#include <vector>

#include "codec/random.hpp"
#include "codec/sparse.hpp"
#include "comm/balanced.hpp"
#include "comm/frames.hpp"

namespace mls {
namespace {

Selected largest(std::span<const float> x, std::size_t k, bool sampled, Draw draw) {
  Selected found(std::min(k, x.size()));
  found.places.resize(select_top(x, found.size(), sampled, draw, found.places.data()));
  found.values.resize(found.size());
  for (std::size_t i = 0; i < found.size(); ++i) found.values[i] = x[found.places[i]];
  return found;
}

}  // namespace

void FrameExchange::balanced() {
  const Cyclic layout{y_.size(), size()};
  divide({Pattern::balanced});
  const std::size_t k = k_of(spec_, y_.size());
  const std::size_t room = selected_bound(most_told(k, size()));
  Scratch memory(wire_.transport, 2 * size() * room);
  const auto arrival = [&](std::size_t peer) { return memory.part(peer * room, room); };
  const auto departure = [&](std::size_t peer) {
    return memory.part((size() + peer) * room, room);
  };
  Flights receives(wire_.transport, size());
  Flights sends(wire_.transport, size());
  const auto receive_all = [&](std::uint64_t leg) {
    for (std::size_t step = 1; step < size(); ++step) {
      const std::size_t from = (own() + size() - step) % size();
      receive(receives[from], from, leg, arrival(from));
    }
  };
  const auto write = [&](const Selected& chosen, std::size_t owner, Draw draw,
                         std::span<std::byte> frame) {
    return write_selected(spec_, chosen, layout.share(owner), draw, frame);
  };
  const auto sent = [&](std::span<std::byte> frame, std::size_t owner) {
    return read_selected({frame.subspan(sizeof(FrameHeader)), layout.share(owner), spec_.values});
  };
  const auto opened = [&](std::size_t peer, std::size_t owner, std::span<std::byte> mine) {
    wire_.wait(receives[peer]);
    const std::span<std::byte> bytes =
        peer == own() ? mine : arrival(peer).first(receives[peer].arrived);
    return read_selected(open(bytes, layout.share(owner), peer).payload);
  };

  receive_all(0);
  std::vector<Selected> chosen;
  {
    const Span span(wire_.transport.trace(), "select");
    const Selected all = largest(y_, k, spec_.sampled, {key_of(key_, own() + 1), 0});
    chosen = by_owner(all, layout, most_sent(k, size()));
  }
  std::span<std::byte> mine;
  for (std::size_t step = 1; step <= size(); ++step) {
    const std::size_t to = (own() + step) % size();
    const Draw draw = draw_for(key_, own(), to, size());
    const std::span<std::byte> frame = write(chosen[to], to, draw, departure(to));
    if (to == own()) {
      mine = frame;
    } else {
      send(sends[to], to, 0, frame);
    }
    if (feedback_ == Feedback::none) continue;
    const Selected told = sent(frame, to);
    for (std::size_t i = 0; i < told.size(); ++i) {
      const std::size_t element = layout.element(to, told.places[i]);
      if (feedback_ == Feedback::classic || measure_) y_[element] -= told.values[i];
      if (feedback_ == Feedback::ef21) memory_.residual[element] += told.values[i];
      if (feedback_ == Feedback::classic && !memory_.velocity.empty()) {
        memory_.velocity[element] = 0;
      }
    }
  }

  std::vector<float> passing(feedback_ == Feedback::none ? layout.share(own()) : 0);
  std::vector<float>& sum = feedback_ == Feedback::none ? passing : memory_.owned;
  for (std::size_t peer = 0; peer < size(); ++peer) {
    wire_.transport.at_step(peer + 1, 2 * size());
    const Selected came = opened(peer, own(), mine);
    for (std::size_t i = 0; i < came.size(); ++i) sum[came.places[i]] += came.values[i];
  }
  for (std::size_t peer = 0; peer < size(); ++peer) wire_.wait(sends[peer]);

  receive_all(1);
  std::vector<float> news;
  if (feedback_ == Feedback::ef21) {
    news = sum;
    for (std::size_t place = 0; place < news.size(); ++place) {
      news[place] -= memory_.estimate[layout.element(own(), place)];
    }
  }
  const std::span<const float> owed = feedback_ == Feedback::ef21 ? news : sum;
  const Draw draw{key_of(key_, own() + 1) + 1, 0};
  mine = write(largest(owed, most_told(k, size()), false, draw), own(), draw, departure(own()));
  for (std::size_t step = 1; step < size(); ++step) {
    const std::size_t to = (own() + step) % size();
    send(sends[to], to, 1, mine);
  }
  if (feedback_ == Feedback::classic) {
    const Selected told = sent(mine, own());
    for (std::size_t i = 0; i < told.size(); ++i) sum[told.places[i]] -= told.values[i];
  }
  if (feedback_ != Feedback::ef21) std::ranges::fill(out_, 0.0f);
  const std::span<float> into = feedback_ == Feedback::ef21 ? std::span(memory_.estimate) : out_;
  for (std::size_t peer = 0; peer < size(); ++peer) {
    wire_.transport.at_step(size() + peer + 1, 2 * size());
    const Selected told = opened(peer, peer, mine);
    for (std::size_t i = 0; i < told.size(); ++i) {
      into[layout.element(peer, told.places[i])] += told.values[i];
    }
  }
  for (std::size_t peer = 0; peer < size(); ++peer) wire_.wait(sends[peer]);
  finish();
}

}  // namespace mls
