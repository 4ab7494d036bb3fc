#include "ps/outbox.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "ps/backoff.hpp"

namespace mls {

Outbox::~Outbox() {
  for (Small& small : small_) transport_.cancel(small.request);
  for (Answer& answer : answers_) {
    for (Request& flight : answer.flights) transport_.cancel(flight);
  }
  if (!transport_.unsettled()) return;
  for (Small& small : small_) static_cast<void>(small.memory.memory.release());
  for (Answer& answer : answers_) static_cast<void>(answer.own.memory.release());
}

void Outbox::send(int rank, Message head, std::span<const std::byte> values) {
  head.bytes = values.size();
  Small small{pool_.take(sizeof head + values.size()), {}};
  write_header(head, small.memory.bytes());
  std::ranges::copy(values, small.memory.bytes().begin() + sizeof head);
  small_.push_back(std::move(small));
  transport_.send(small_.back().request, rank, tag_of(Leg::answer, head.request),
                  small_.back().memory.bytes());
}

Outbox::Answer& Outbox::start(int rank, Message head, std::span<const std::byte> values,
                              std::size_t table, std::uint32_t urgency) {
  Small small{pool_.take(sizeof head), {}};
  head.bytes = values.size();
  write_header(head, small.memory.bytes());
  small_.push_back(std::move(small));
  transport_.send(small_.back().request, rank, tag_of(Leg::answer, head.request),
                  small_.back().memory.bytes());
  return answers_.emplace_back(Answer{rank, head.request, values, 0, 0, urgency, table, {}, {}});
}

Outbox::Answer& Outbox::start_own(int rank, Message head, Buffer values, std::uint32_t urgency) {
  Answer& answer = start(rank, head, values.bytes(), kOwn, urgency);
  answer.own = std::move(values);
  return answer;
}

void Outbox::start(int rank, Message head, Buffer values, std::uint32_t urgency) {
  if (values.size <= kInline) {
    send(rank, head, values.bytes());
    pool_.give(std::move(values));
    return;
  }
  Answer& answer = start_own(rank, head, std::move(values), urgency);
  ready(answer, answer.own.size);
}

void Outbox::ready(Answer& answer, std::size_t bytes) {
  answer.ready = bytes;
  pump();
}

// Slices go out as long as few are under way to the worker.
void Outbox::pump() {
  std::map<int, std::size_t> under_way;
  for (const Answer& answer : answers_) under_way[answer.rank] += answer.flights.size();
  while (true) {
    Answer* next = nullptr;
    for (Answer& answer : answers_) {
      const std::size_t stop = std::min(answer.sent + kSlice, answer.values.size());
      if (answer.sent == answer.values.size() || answer.ready < stop) continue;
      if (under_way[answer.rank] >= kFlights) continue;
      if (!next || answer.urgency > next->urgency) next = &answer;
    }
    if (!next) return;
    const std::size_t length = std::min(kSlice, next->values.size() - next->sent);
    next->flights.emplace_back();
    transport_.send(next->flights.back(), next->rank, tag_of(Leg::down, next->request),
                    next->values.subspan(next->sent, length));
    next->sent += length;
    ++under_way[next->rank];
  }
}

bool Outbox::poll() {
  bool happened = false;
  for (auto small = small_.begin(); small != small_.end();) {
    if (transport_.test(small->request)) {
      pool_.give(std::move(small->memory));
      small = small_.erase(small);
      happened = true;
    } else {
      ++small;
    }
  }
  for (auto answer = answers_.begin(); answer != answers_.end();) {
    happened |= drop_completed(transport_, answer->flights);
    if (answer->sent == answer->values.size() && answer->flights.empty()) {
      pool_.give(std::move(answer->own));
      answer = answers_.erase(answer);
    } else {
      ++answer;
    }
  }
  if (happened) pump();
  return happened;
}

void Outbox::settle(std::size_t table, Deadline deadline) {
  const auto uses = [&](const Answer& answer) { return answer.table == table; };
  Backoff backoff;
  while (std::ranges::any_of(answers_, uses)) {
    if (poll()) {
      backoff.busy();
      continue;
    }
    if (Clock::now() >= deadline) {
      std::erase_if(answers_, [&](Answer& answer) {
        if (!uses(answer)) return false;
        for (Request& flight : answer.flights) transport_.cancel(flight);
        return true;
      });
      return;
    }
    backoff.idle();
  }
}

}  // namespace mls
