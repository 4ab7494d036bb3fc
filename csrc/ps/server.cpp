// The life of a request, from its header to its answer. The file is long because all its states are
// here, each step a short function: what is refused, what waits, and what is answered depend on
// each other.
#include "ps/server.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "codec/random.hpp"
#include "ps/backoff.hpp"
#include "ps/lines.hpp"

namespace mls {
namespace {

constexpr auto kWatchEvery = std::chrono::milliseconds(50);

// Reads and writes of tables travel in pieces of at most so many bytes.
constexpr std::uint64_t kMostRead = std::uint64_t{64} << 20;

// Keys of a request; so that sizes cannot overflow.
constexpr std::uint64_t kMostKeys = std::uint64_t{1} << 26;

Deadline after(Clock::time_point now, Clock::duration time) { return now + time; }

// Leaves out entries behind a server's share.
void cut(Piece& piece, std::uint64_t own, std::size_t width) {
  while (!piece.ranges.empty() && piece.ranges.back().end() > own) {
    Range& last = piece.ranges.back();
    const std::uint64_t more = last.end() - std::max(last.start, own);
    piece.values.resize(piece.values.size() - more * width);
    last.length -= more;
    if (last.length == 0) piece.ranges.pop_back();
  }
}

}  // namespace

std::uint64_t digest_of(std::span<const std::uint32_t> slots) {
  std::uint64_t digest = slots.size();
  for (const std::uint32_t slot : slots) digest = key_of(digest, slot);
  return digest;
}

Server::Server(Transport& transport, std::vector<TableSpec> tables, ServerPlace place)
    : transport_(transport),
      place_(std::move(place)),
      shard_(std::move(tables), static_cast<int>(place_.workers.size()), place_.index,
             place_.servers),
      outbox_(transport, shard_.pool()),
      worker_of_(static_cast<std::size_t>(transport.size()), -1),
      keys_(place_.workers.size(), std::vector<KeySet>(kKeySets * shard_.tables())),
      waiting_(shard_.tables()),
      request_(shard_.pool().take(sizeof(Message) + kInline)),
      left_(place_.workers.size(), false) {
  for (std::size_t i = 0; i < place_.workers.size(); ++i) {
    worker_of_.at(static_cast<std::size_t>(place_.workers[i])) = static_cast<int>(i);
  }
  for (std::size_t i = 0; i < shard_.tables(); ++i) {
    told_.emplace_back(shard_.spec(i).codec, static_cast<int>(place_.workers.size()),
                       key_of(~std::uint64_t{place_.index}, i));
  }
}

Server::~Server() {
  for (Coming& coming : coming_) drop(coming);
}

Server::Counts Server::counts() const {
  const auto now = [](const std::atomic<std::uint64_t>& count) {
    return count.load(std::memory_order_relaxed);
  };
  return {now(requests_), now(refused_), now(pushes_), now(pulls_), now(pending_)};
}

void Server::run(std::chrono::duration<double> timeout, const std::function<void()>& watch) {
  timeout_ = std::chrono::duration_cast<Clock::duration>(timeout);
  Backoff backoff;
  Clock::time_point next_watch = Clock::now() + kWatchEvery;
  while (!stopped_.load(std::memory_order_relaxed)) {
    bool happened = false;
    while (take_request()) happened = true;
    happened |= take_slices();
    happened |= outbox_.poll();
    if (happened) {
      backoff.busy();
    } else {
      if (std::ranges::count(left_, false) == 0 && outbox_.empty()) return;
      backoff.idle();
    }
    if (Clock::now() >= next_watch) {
      answer_late();
      if (watch) watch();
      next_watch = Clock::now() + kWatchEvery;
    }
  }
}

// Receives a request, with its values if they came along.
bool Server::take_request() {
  const std::optional<Arrival> from = transport_.probe(tag_of(Leg::request, 0));
  if (!from) return false;
  requests_.fetch_add(1, std::memory_order_relaxed);
  if (from->bytes > request_.capacity) {  // none of ours; it has to be taken away
    Buffer foreign = shard_.pool().take(from->bytes);
    Flights flights(transport_, 1);
    transport_.receive(flights[0], from->peer, tag_of(Leg::request, 0), foreign.bytes());
    transport_.wait(flights[0], after(Clock::now(), timeout_));
    refused_.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  request_.size = from->bytes;
  Flights flights(transport_, 1);
  transport_.receive(flights[0], from->peer, tag_of(Leg::request, 0), request_.bytes());
  transport_.wait(flights[0], after(Clock::now(), timeout_));
  admit(*from);
  return true;
}

// Looks at a request before anything of it is believed.
void Server::admit(Arrival from) {
  Message head;
  const int worker = worker_of_[static_cast<std::size_t>(from.peer)];
  if (worker < 0 || !read_header(request_.bytes(), head)) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const std::size_t along = from.bytes - sizeof head;
  try {
    check(head);
    const Extent extent = extent_of(head);
    if (head.bytes < extent.keys + extent.least || head.bytes > extent.keys + extent.most) {
      throw Refusal{"it says that " + std::to_string(head.bytes) +
                    " bytes follow, which is not "
                    "the size of what it is about"};
    }
    if (along != (slices_of(head.bytes) ? 0 : head.bytes)) {
      throw Refusal{"it is cut short or has bytes too many"};
    }
  } catch (const Refusal& refusal) {
    answer(worker, head, Status::refused, refusal.why);
    return;
  }
  Buffer body;
  try {
    const bool plain = head.verb == Verb::push || head.verb == Verb::push_pull;
    const bool dense = plain && shard_.spec(head.table).kind == TableSpec::Kind::dense;
    body = shard_.pool().take(head.bytes, dense ? gradient_in_line(head) : 0);
  } catch (const std::bad_alloc&) {
    answer(worker, head, Status::refused, "the server has no memory for it");
    return;
  }
  Coming& coming = coming_.emplace_back(
      Coming{head, worker, std::move(body), {}, after(Clock::now(), timeout_)});
  if (along == head.bytes) {
    std::ranges::copy(request_.bytes().subspan(sizeof head), coming.body.bytes().begin());
    return;
  }
  coming.slices.reserve(slices_of(head.bytes));
  for (std::size_t start = 0; start < head.bytes; start += kSlice) {
    const std::size_t length = std::min(kSlice, head.bytes - start);
    transport_.receive(coming.slices.emplace_back(), from.peer, tag_of(Leg::up, head.request),
                       coming.body.bytes().subspan(start, length));
  }
}

// Handles what is whole: the requests of a worker in the order in which it sent them.
bool Server::take_slices() {
  bool happened = false;
  std::vector<bool> held_up(place_.workers.size(), false);
  for (auto coming = coming_.begin(); coming != coming_.end();) {
    try {
      if (drop_completed(transport_, coming->slices)) {
        coming->deadline = after(Clock::now(), timeout_);
        happened = true;
      }
    } catch (const Failure& failure) {
      coming->wrong = failure.what();
    }
    if (!coming->slices.empty() && Clock::now() >= coming->deadline) {
      coming->wrong = "its values did not come";
    }
    const auto worker = static_cast<std::size_t>(coming->worker);
    const bool waits = !coming->slices.empty() || runs_ahead(coming->head);
    if (held_up[worker] || (waits && coming->wrong.empty())) {
      held_up[worker] = true;
      ++coming;
      continue;
    }
    Coming now = std::move(*coming);
    coming = coming_.erase(coming);
    happened = true;
    if (now.wrong.empty()) {
      handle(now.worker, now.head, std::move(now.body));
    } else {  // as if nothing had come
      drop(now);
      answer(now.worker, now.head, Status::refused, now.wrong);
    }
  }
  return happened;
}

// Whether a push must wait for slower workers, as their steps would need memory without a limit.
bool Server::runs_ahead(const Message& head) {
  if (head.verb != Verb::push && head.verb != Verb::push_pull) return false;
  if (shard_.spec(head.table).consistency != Consistency::bsp) return false;
  return head.step >= shard_.clocks(head.table).applied() + Shard::kAhead;
}

void Server::drop(Coming& coming) {
  for (Request& slice : coming.slices) transport_.cancel(slice);
  coming.slices.clear();
  if (transport_.unsettled()) static_cast<void>(coming.body.memory.release());
}

void Server::check(const Message& head) const {
  if (head.verb == Verb::leave || head.verb == Verb::observe) return;
  if (head.table >= shard_.tables()) {
    throw Refusal{"there is no table " + std::to_string(head.table)};
  }
  const TableSpec& spec = shard_.spec(head.table);
  const std::uint64_t own = shard_.count(head.table);
  if (head.flags & (Message::kFrame | Message::kTakesFrames)) {
    const bool values =
        head.verb == Verb::push || head.verb == Verb::pull || head.verb == Verb::push_pull;
    if (!values || spec.codec.codec == CodecId::none) {
      throw Refusal{"frames do not go with this request of '" + spec.name + "'"};
    }
  }
  if (head.verb == Verb::piece || head.verb == Verb::drop) return;
  if (head.verb == Verb::snapshot) {
    const std::uint64_t updates = shard_.updates(head.table);
    if ((head.flags & Message::kSince) && head.start > updates) {
      throw Refusal{"'" + spec.name + "' has had " + std::to_string(updates) + " updates, not " +
                    std::to_string(head.start)};
    }
  } else if (head.verb == Verb::read || head.verb == Verb::write) {
    if (head.start > own || head.count > own - head.start) {
      throw Refusal{"'" + spec.name + "' has " + std::to_string(own) + " entries here"};
    }
    if (head.count > kMostRead / entry_bytes(head.table)) {
      throw Refusal{"it is about too many entries at a time"};
    }
  } else if (spec.kind == TableSpec::Kind::dense && head.count != own) {
    throw Refusal{"'" + spec.name + "' has " + std::to_string(own) + " elements here, not " +
                  std::to_string(head.count)};
  } else if (spec.kind == TableSpec::Kind::rows) {
    if (head.entry >= kKeySets) {
      throw Refusal{"there is no key set " + std::to_string(head.entry)};
    }
    if (head.count > kMostKeys) throw Refusal{"it has too many keys"};
  }
}

// Of an entry with its state.
std::uint64_t Server::entry_bytes(std::size_t table) const {
  const TableSpec& spec = shard_.spec(table);
  return sizeof(float) * (spec.width + rule_row(spec.rule.id).state_of(spec.width));
}

// Of a request that was checked.
Server::Extent Server::extent_of(const Message& head) const {
  const VerbRow& row = kVerbs[static_cast<std::size_t>(head.verb)];
  if (!row.brings && head.verb != Verb::pull) return {};
  const TableSpec& spec = shard_.spec(head.table);
  Extent extent;
  if (head.verb == Verb::write) {
    extent.least = extent.most = head.count * entry_bytes(head.table);
    return extent;
  }
  if (spec.kind == TableSpec::Kind::rows && !(head.flags & Message::kKnownKeys)) {
    extent.keys = sizeof(std::uint32_t) * head.count;
  }
  if (!row.brings) return extent;
  const std::uint64_t floats = head.count * spec.width;
  const bool frame = head.flags & Message::kFrame;
  extent.least = frame ? sizeof(FrameHeader) : sizeof(float) * floats;
  extent.most = frame ? frame_bound(spec.codec, floats) : extent.least;
  return extent;
}

// The floats that a request brought, behind its keys.
Buffer Server::values_of(const Message& head, Buffer body) {
  const std::span<const std::byte> bytes = body.bytes().subspan(extent_of(head).keys);
  if (!(head.flags & Message::kFrame)) {
    if (bytes.size() < body.size) std::ranges::copy(bytes, body.bytes().begin());
    body.size = bytes.size();
    return body;
  }
  const TableSpec& spec = shard_.spec(head.table);
  Buffer values;
  try {
    const Frame frame = open_frame(bytes, spec.codec, head.count * spec.width);
    values = shard_.pool().take(sizeof(float) * head.count * spec.width);
    frame.codec.decode(frame.payload, values.floats().data());
  } catch (const Failure& failure) {
    throw Refusal{failure.what()};
  } catch (const std::bad_alloc&) {
    throw Refusal{"the server has no memory for it"};
  }
  shard_.pool().give(std::move(body));
  return values;
}

// The keys of a request, which came with it or are known.
std::vector<std::uint32_t> Server::slots_of(int worker, const Message& head, const Buffer& body) {
  KeySet& known =
      keys_[static_cast<std::size_t>(worker)][head.table * std::size_t{kKeySets} + head.entry];
  if (!(head.flags & Message::kKnownKeys)) {
    std::vector<std::uint32_t> slots(head.count);
    std::memcpy(slots.data(), body.bytes().data(), sizeof(std::uint32_t) * head.count);
    if (digest_of(slots) != head.digest) throw Refusal{"its keys are not those of its digest"};
    if (!shard_.rows(head.table).fits(slots)) {
      throw Refusal{"'" + shard_.spec(head.table).name + "' has " +
                    std::to_string(shard_.count(head.table)) +
                    " rows here, and one of its keys is beyond"};
    }
    known = {head.digest, std::move(slots)};
  } else if (known.digest != head.digest || known.slots.size() != head.count) {
    throw Refusal{"its keys are not known here"};
  }
  return known.slots;
}

void Server::handle(int worker, const Message& head, Buffer body) {
  try {
    switch (head.verb) {
      case Verb::leave:
      case Verb::observe:
        for (std::size_t table = 0; table < shard_.tables(); ++table) {
          outbox_.settle(table, after(Clock::now(), timeout_));
        }
        shard_.leave(worker, [](Range) {});
        if (head.verb == Verb::leave) {
          left_[static_cast<std::size_t>(worker)] = true;
          kept_.drop_all(worker);
          for (Told& told : told_) told.forget(worker);
        }
        answer(worker, head, Status::done, {});
        for (std::size_t table = 0; table < shard_.tables(); ++table) answer_waiting(table);
        return;
      case Verb::read:
        read_table(worker, head);
        return;
      case Verb::write:
        write_table(head, body);
        answer(worker, head, Status::done, {});
        return;
      case Verb::snapshot:
        wait_for(worker, head, {});
        return;
      case Verb::piece:
        give_piece(worker, head);
        return;
      case Verb::drop:
        kept_.drop(kept(worker, head));
        answer(worker, head, Status::done, {});
        return;
      default:
        break;
    }
    std::vector<std::uint32_t> slots;
    if (shard_.spec(head.table).kind == TableSpec::Kind::rows) {
      slots = slots_of(worker, head, body);
    }
    if (head.verb == Verb::pull) {
      pulls_.fetch_add(1, std::memory_order_relaxed);
      wait_for(worker, head, std::move(slots));
      shard_.pool().give(std::move(body));
      return;
    }
    push(worker, head, std::move(slots), values_of(head, std::move(body)));
  } catch (const Refusal& refusal) {
    answer(worker, head, Status::refused, refusal.why);
  }
}

// Answers as soon as consistency allows it.
void Server::wait_for(int worker, const Message& head, std::vector<std::uint32_t> slots) {
  waiting_[head.table].push_back({head, worker, std::move(slots),
                                  Clock::now() + std::chrono::milliseconds(head.patience_ms),
                                  nullptr});
  answer_waiting(head.table);
}

void Server::push(int worker, const Message& head, std::vector<std::uint32_t> slots,
                  Buffer values) {
  pushes_.fetch_add(1, std::memory_order_relaxed);
  const std::size_t table = head.table;
  Clocks& clocks = shard_.clocks(table);
  const bool bsp = shard_.spec(table).consistency == Consistency::bsp;
  if (clocks.has_left(worker)) throw Refusal{"the worker has said that it only reads"};
  const Clocks::Turn turn = clocks.turn(worker, head.step);
  if (turn == Clocks::Turn::early) {
    throw Refusal{"step " + std::to_string(head.step) + " of '" + shard_.spec(table).name +
                  "' is not the worker's next one"};
  }
  const bool pulls = head.verb == Verb::push_pull;
  std::list<Waiting>& waiting = waiting_[table];
  if (pulls) {
    pulls_.fetch_add(1, std::memory_order_relaxed);
    waiting.push_back(
        {head, worker, slots, Clock::now() + std::chrono::milliseconds(head.patience_ms), nullptr});
    waiting.back().head.step = head.step + 1;
  } else {
    answer(worker, head, turn == Clocks::Turn::repeated ? Status::repeated : Status::done, {});
  }
  if (turn == Clocks::Turn::repeated) {
    shard_.pool().give(std::move(values));
    answer_waiting(table);
    return;
  }
  // with bsp the answers of a step go out part by part while it is applied
  const bool parts = bsp && shard_.spec(table).kind == TableSpec::Kind::dense &&
                     sizeof(float) * shard_.count(table) > kInline;
  if (parts && shard_.completes(table, worker)) {
    outbox_.settle(table, after(Clock::now(), timeout_));
    const auto bytes = std::as_bytes(shard_.dense(table).values());
    for (Waiting& one : waiting) {
      if (one.head.step != clocks.applied() + 1 || one.head.verb == Verb::snapshot) continue;
      if (one.head.flags & Message::kTakesFrames) continue;
      told_[table].forget(one.worker);
      Message reply = one.head;
      reply.status = Status::done;
      reply.flags = 0;
      reply.staleness = 0;
      const int rank = place_.workers[static_cast<std::size_t>(one.worker)];
      const std::uint32_t urgency = shard_.spec(table).urgency;
      if (copies_fast(in_line(bytes.data()), parameters_in_line(one.head))) {
        one.answer = &outbox_.start(rank, reply, bytes, table, urgency);
      } else {
        one.answer = &outbox_.start_own(
            rank, reply, shard_.pool().take(bytes.size(), parameters_in_line(one.head)), urgency);
      }
    }
  }
  shard_.push(table, worker, {head.step, head.rate, std::move(slots), std::move(values)},
              [&](Range part) {
                for (Waiting& one : waiting) {
                  if (!one.answer) continue;
                  if (one.answer->own.memory) {
                    const std::span<const float> now = shard_.dense(table).values();
                    std::ranges::copy(now.subspan(part.start, part.length),
                                      one.answer->own.floats().subspan(part.start).begin());
                  }
                  outbox_.ready(*one.answer, sizeof(float) * part.end());
                }
                outbox_.poll();
              });
  std::erase_if(waiting, [](const Waiting& one) { return one.answer != nullptr; });
  answer_waiting(table);
}

// Answers what need not wait any longer.
void Server::answer_waiting(std::size_t table) {
  const Clocks& clocks = shard_.clocks(table);
  std::erase_if(waiting_[table], [&](const Waiting& one) {
    if (!clocks.may_pull(one.head.step)) return false;
    answer(one);
    return true;
  });
  std::size_t pending = 0;
  for (const std::list<Waiting>& list : waiting_) pending += list.size();
  pending_.store(pending, std::memory_order_relaxed);
}

void Server::answer(const Waiting& waiting) {
  if (waiting.head.verb == Verb::snapshot) {
    keep_snapshot(waiting);
    return;
  }
  const std::size_t table = waiting.head.table;
  const TableSpec& spec = shard_.spec(table);
  Message reply = waiting.head;
  reply.status = Status::done;
  reply.staleness = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(shard_.clocks(table).behind(waiting.head.step), ~0u));
  const int rank = place_.workers[static_cast<std::size_t>(waiting.worker)];
  const bool frames = waiting.head.flags & Message::kTakesFrames;
  reply.flags = 0;
  if (spec.kind == TableSpec::Kind::rows) {
    Buffer values = shard_.pool().take(sizeof(float) * waiting.slots.size() * spec.width);
    shard_.rows(table).pull(waiting.slots, values.floats());
    if (frames) {
      const Draw draw{key_of(waiting.head.digest, shard_.updates(table)), 0};
      shard_.pool().give(
          std::exchange(values, encode_all(spec.codec, values.floats(), draw, shard_.pool())));
      reply.flags = Message::kFrame;
    }
    outbox_.start(rank, reply, std::move(values), spec.urgency);
    return;
  }
  if (!frames) told_[table].forget(waiting.worker);
  if (std::optional<Buffer> frame =
          frames ? told_[table].tell(waiting.worker, shard_.dense(table).values(),
                                     shard_.updates(table), shard_.pool())
                 : std::nullopt) {
    reply.flags = Message::kFrame;
    outbox_.start(rank, reply, std::move(*frame), spec.urgency);
    return;
  }
  const auto bytes = std::as_bytes(shard_.dense(table).values());
  Buffer values = shard_.pool().take(bytes.size(), parameters_in_line(waiting.head));
  std::ranges::copy(bytes, values.bytes().begin());
  outbox_.start(rank, reply, std::move(values), spec.urgency);
}

void Server::answer(int worker, const Message& head, Status status, const std::string& text) {
  if (status == Status::refused) refused_.fetch_add(1, std::memory_order_relaxed);
  Message reply = head;
  reply.status = status;
  outbox_.send(place_.workers[static_cast<std::size_t>(worker)], reply,
               std::as_bytes(std::span(text)));
}

void Server::answer_late() {
  const Clock::time_point now = Clock::now();
  for (std::list<Waiting>& list : waiting_) {
    std::erase_if(list, [&](const Waiting& one) {
      if (now < one.late_at) return false;
      answer(one.worker, one.head, Status::late, late_ones(one));
      return true;
    });
  }
}

// Who keeps a pull waiting.
std::string Server::late_ones(const Waiting& waiting) {
  const TableSpec& spec = shard_.spec(waiting.head.table);
  std::uint64_t needed = waiting.head.step;
  if (spec.consistency == Consistency::ssp)
    needed -= std::min<std::uint64_t>(needed, spec.staleness);
  std::string text;
  for (const int worker : shard_.clocks(waiting.head.table).behind_of(needed)) {
    text += (text.empty() ? "" : ", ") +
            std::to_string(place_.workers[static_cast<std::size_t>(worker)]);
  }
  return text;
}

Table& Server::table(std::size_t index) {
  if (shard_.spec(index).kind == TableSpec::Kind::dense) return shard_.dense(index);
  return shard_.rows(index);
}

void Server::keep_snapshot(const Waiting& waiting) {
  const Message& head = waiting.head;
  if (kept_.full(waiting.worker)) {
    answer(waiting.worker, head, Status::refused,
           "it reads " + std::to_string(kSnapshots) + " snapshots already; drop one");
    return;
  }
  SnapshotOptions options;
  if (head.flags & Message::kSince) options.since = version_of(head.start);
  const std::uint64_t number =
      kept_.keep(waiting.worker, head.table, table(head.table).snapshot(options));
  Message reply = head;
  reply.status = Status::done;
  reply.flags = 0;
  reply.start = number;
  reply.updates = shard_.updates(head.table);
  outbox_.send(place_.workers[static_cast<std::size_t>(waiting.worker)], reply);
}

// Of this worker.
KeptSnapshots::Place Server::kept(int worker, const Message& head) {
  const std::optional<KeptSnapshots::Place> found = kept_.find(worker, head.table, head.start);
  if (!found) {
    throw Refusal{"there is no snapshot " + std::to_string(head.start) + " of this table"};
  }
  return *found;
}

void Server::give_piece(int worker, const Message& head) {
  const auto found = kept(worker, head);
  Message reply = head;
  reply.status = Status::done;
  Piece piece;
  if (!found->snapshot.next(piece)) {
    kept_.drop(found);
    reply.flags = Message::kEnd;
    outbox_.send(place_.workers[static_cast<std::size_t>(worker)], reply);
    return;
  }
  cut(piece, shard_.own(head.table), shard_.spec(head.table).width);
  const auto ranges = std::as_bytes(std::span(piece.ranges));
  const auto values = std::as_bytes(std::span(piece.values));
  Buffer buffer = shard_.pool().take(ranges.size() + values.size());
  std::ranges::copy(ranges, buffer.bytes().begin());
  std::ranges::copy(values, buffer.bytes().begin() + static_cast<std::ptrdiff_t>(ranges.size()));
  reply.count = piece.ranges.size();
  outbox_.start(place_.workers[static_cast<std::size_t>(worker)], reply, std::move(buffer), 0);
}

void Server::read_table(int worker, const Message& head) {
  const TableSpec& spec = shard_.spec(head.table);
  Table& table = this->table(head.table);
  told_[head.table].forget(worker);  // the worker has the parameters themselves now
  Buffer values = shard_.pool().take(sizeof(float) * head.count * table.floats(Contents::all));
  table.save({head.start, head.count}, Contents::all, values.floats().data());
  Message reply = head;
  reply.status = Status::done;
  reply.updates = shard_.updates(head.table);
  reply.step = shard_.clocks(head.table).slowest();
  outbox_.start(place_.workers[static_cast<std::size_t>(worker)], reply, std::move(values),
                spec.urgency);
}

void Server::write_table(const Message& head, const Buffer& body) {
  outbox_.settle(head.table, after(Clock::now(), timeout_));
  told_[head.table].forget_all();
  Table& table = this->table(head.table);
  table.at_version(version_of(head.updates));
  table.load({head.start, head.count}, body.floats().data());
  shard_.resume_at(head.table, head.updates, head.step);
  answer_waiting(head.table);
}

}  // namespace mls
