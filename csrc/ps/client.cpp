// A worker's requests for gradients and parameters, from their header to what their answer brings.
#include <algorithm>
#include <cstring>
#include <utility>

#include "ps/backoff.hpp"
#include "ps/client_call.hpp"
#include "ps/lines.hpp"
#include "ps/server.hpp"

namespace mls {

namespace {

std::uint8_t frames_of(const TableSpec& spec, bool plain) {
  return spec.codec.codec == CodecId::none || plain ? std::uint8_t{0} : Message::kTakesFrames;
}

}  // namespace

Client::Client(Transport& transport, std::vector<TableSpec> tables, std::vector<int> servers,
               std::chrono::duration<double> patience, int worker)
    : transport_(transport),
      tables_(std::move(tables)),
      ranks_(std::move(servers)),
      worker_(worker),
      steps_(tables_.size(), 0),
      keys_(tables_.size(),
            std::vector<KeySets>(ranks_.size(), {std::vector<std::uint64_t>(kKeySets, 0), 0})),
      coding_(tables_.size()),
      patience_ms_(static_cast<std::uint32_t>(std::clamp(patience.count() * 1e3, 1.0, 4e9))) {
  if (ranks_.empty()) throw Failure(FailureKind::config, "a client needs a server");
  for (const TableSpec& spec : tables_) replicas_.push_back(spec.replicas(this->servers()));
}

Client::~Client() { give_up(); }

// How many floats the answer to a call brings.
std::size_t Client::floats_of(const Call& call) const {
  if (call.rows_into.empty()) return call.into.size();
  return tables_[call.head.table].width * call.positions.size();
}

void Client::give_up() noexcept {
  for (Call& call : calls_) {
    for (Request& send : call.sends) transport_.cancel(send);
    for (Request& slice : call.slices) transport_.cancel(slice);
    transport_.cancel(call.hears);
    if (!transport_.unsettled()) continue;
    for (Buffer* buffer : {&call.request, &call.answer, &call.sent, &call.received}) {
      static_cast<void>(buffer->memory.release());
    }
  }
  calls_.clear();
}

// The number of a request that all servers get. Throws before any of them has got it.
void Client::begin_request() {
  if (!calls_.empty() && requests_ + 1 - calls_.front().head.request >= kUnderWay) {
    throw Failure(FailureKind::config, "too many requests under way; settle them first");
  }
  ++requests_;
}

// owned: the memory of the values, where it is not the caller's.
Client::Call& Client::call(std::uint32_t server, Message head, std::span<const std::byte> values,
                           Buffer owned) {
  head.bytes = values.size();
  head.patience_ms = patience_ms_;
  const std::size_t slices = slices_of(values.size());
  const std::size_t along = slices ? 0 : values.size();
  Call& call = calls_.emplace_back();
  call.head = head;
  call.rank = ranks_[server];
  call.server = server;
  call.sent = std::move(owned);
  call.request = pool_.take(sizeof head + along);
  call.answer = pool_.take(sizeof head + kInline);
  write_header(head, call.request.bytes());
  std::ranges::copy(values.first(along), call.request.bytes().begin() + sizeof head);
  call.sends.resize(1 + slices);
  transport_.receive(call.hears, call.rank, tag_of(Leg::answer, head.request), call.answer.bytes());
  call.hears.shorter = true;
  transport_.send(call.sends[0], call.rank, tag_of(Leg::request, 0), call.request.bytes());
  for (std::size_t i = 0; i < slices; ++i) {
    const std::size_t start = i * kSlice;
    transport_.send(call.sends[1 + i], call.rank, tag_of(Leg::up, head.request),
                    values.subspan(start, std::min(kSlice, values.size() - start)));
  }
  sent_ += sizeof head + values.size();
  return call;
}

void Client::set_feedback(std::size_t table, Feedback feedback) {
  const TableSpec& spec = tables_.at(table);
  if (!feedback.residual.empty() && feedback.residual.size() != spec.count) {
    throw Failure(FailureKind::config, "'" + spec.name + "' has " + std::to_string(spec.count) +
                                           " elements, and not " +
                                           std::to_string(feedback.residual.size()));
  }
  coding_[table].feedback = std::move(feedback);
}

// A frame of this step's gradient for a server, and of what earlier ones left out.
Buffer Client::encoded(std::size_t table, std::span<const float> gradient, std::uint32_t server) {
  const TableSpec& spec = tables_[table];
  Feedback& feedback = coding_[table].feedback;
  const Range own = dense_range(spec.count, servers(), server);
  const std::span<const float> part = gradient.subspan(own.start, own.length);
  const std::uint64_t sender = key_of(static_cast<std::uint64_t>(transport_.rank()), table);
  const Draw draw{key_of(sender, feedback.pushes), own.start};
  if (!spec.feedback) return encode_all(spec.codec, part, draw, pool_);
  if (feedback.residual.empty()) feedback.residual.resize(spec.count);
  const std::span<float> rest = std::span(feedback.residual).subspan(own.start, own.length);
  for (std::size_t i = 0; i < part.size(); ++i) rest[i] += part[i];
  return encode_rest(spec.codec, rest, draw, pool_);
}

void Client::push(std::size_t table, float rate, std::span<const float> gradient,
                  std::span<float> into, bool plain) {
  const TableSpec& spec = tables_.at(table);
  if (spec.kind != TableSpec::Kind::dense || gradient.size() != spec.count ||
      (!into.empty() && into.size() != spec.count)) {
    throw Failure(FailureKind::config, "'" + spec.name + "' takes " + std::to_string(spec.count) +
                                           " elements, not " + std::to_string(gradient.size()));
  }
  begin_request();
  const std::uint64_t step = steps_[table]++;
  const bool codes = spec.codec.codec != CodecId::none && !plain;
  for (std::uint32_t server = 0; server < servers(); ++server) {
    const Range own = dense_range(spec.count, servers(), server);
    if (own.length == 0) continue;
    Message head{.verb = into.empty() ? Verb::push : Verb::push_pull,
                 .table = static_cast<std::uint16_t>(table),
                 .request = requests_,
                 .step = step,
                 .count = own.length,
                 .rate = rate};
    Call* now = nullptr;
    if (codes) {
      head.flags = Message::kFrame | Message::kTakesFrames;
      Buffer frame = encoded(table, gradient, server);
      const std::span<const std::byte> bytes = frame.bytes();
      now = &call(server, head, bytes, std::move(frame));
    } else {
      const std::span<const float> part = gradient.subspan(own.start, own.length);
      head.entry = lines_of(part.data(), into.empty() ? nullptr : into.data() + own.start);
      now = &call(server, head, std::as_bytes(part));
    }
    if (!into.empty()) now->into = into.subspan(own.start, own.length);
  }
  if (codes) ++coding_[table].feedback.pushes;
}

void Client::pull(std::size_t table, std::span<float> into, bool plain) {
  const TableSpec& spec = tables_.at(table);
  if (spec.kind != TableSpec::Kind::dense || into.size() != spec.count) {
    throw Failure(FailureKind::config, "'" + spec.name + "' has " + std::to_string(spec.count) +
                                           " elements, not " + std::to_string(into.size()));
  }
  begin_request();
  for (std::uint32_t server = 0; server < servers(); ++server) {
    const Range own = dense_range(spec.count, servers(), server);
    if (own.length == 0) continue;
    const Message head{.verb = Verb::pull,
                       .flags = frames_of(spec, plain),
                       .table = static_cast<std::uint16_t>(table),
                       .entry = lines_of(nullptr, into.data() + own.start),
                       .request = requests_,
                       .step = steps_[table],
                       .count = own.length};
    call(server, head, {}).into = into.subspan(own.start, own.length);
  }
}

void Client::check_rows(std::size_t table, std::span<const std::uint64_t> rows,
                        std::size_t floats) const {
  const TableSpec& spec = tables_.at(table);
  if (spec.kind != TableSpec::Kind::rows || floats != rows.size() * spec.width) {
    throw Failure(FailureKind::config,
                  "'" + spec.name + "' takes rows of " + std::to_string(spec.width) + " floats");
  }
  for (const std::uint64_t row : rows) {
    if (row < spec.count) continue;
    throw Failure(FailureKind::config, "'" + spec.name + "' has " + std::to_string(spec.count) +
                                           " rows, and no row " + std::to_string(row));
  }
}

Client::Split Client::split(std::size_t table, Verb verb,
                            std::span<const std::uint64_t> rows) const {
  std::vector<Home> found(rows.size());
  homes(tables_[table].rows(servers()), rows, found);
  Split result;
  result.slots.resize(ranks_.size());
  result.positions.resize(ranks_.size());
  const auto put = [&](std::size_t i, std::uint32_t server, std::uint64_t slot) {
    result.slots[server].push_back(static_cast<std::uint32_t>(slot));
    result.positions[server].push_back(static_cast<std::uint32_t>(i));
  };
  const Replicas& replicas = replicas_[table];
  const bool any = !tables_[table].hot.empty();
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto which = any ? replicas.find(rows[i]) : std::nullopt;
    if (!which) {
      put(i, found[i].server, found[i].slot);
    } else if (verb == Verb::pull) {
      const std::uint32_t server = replicas.reads_from(*which, worker_);
      put(i, server, replicas.slot(*which, server));
    } else {
      for (std::uint32_t server = 0; server < servers(); ++server) {
        put(i, server, replicas.slot(*which, server));
      }
    }
  }
  return result;
}

void Client::request_rows(std::size_t table, Verb verb, float rate,
                          std::span<const std::uint64_t> rows, std::span<const float> gradients,
                          std::span<float> into) {
  check_rows(table, rows, std::max(gradients.size(), into.size()));
  const TableSpec& spec = tables_[table];
  const std::size_t width = spec.width;
  const bool codes = spec.codec.codec != CodecId::none;
  Split parts = split(table, verb, rows);
  begin_request();
  for (std::uint32_t server = 0; server < servers(); ++server) {
    const std::vector<std::uint32_t>& slots = parts.slots[server];
    // clocks go on with each push, so servers hear of those without rows for them
    if (slots.empty() && verb == Verb::pull) continue;
    Message head{.verb = verb,
                 .table = static_cast<std::uint16_t>(table),
                 .request = requests_,
                 .step = steps_[table],
                 .count = slots.size(),
                 .digest = digest_of(slots),
                 .rate = rate};
    if (codes) head.flags = verb == Verb::push ? Message::kFrame : Message::kTakesFrames;
    KeySets& known = keys_[table][server];
    const auto found = std::ranges::find(known.digests, head.digest);
    if (found != known.digests.end()) {
      head.entry = static_cast<std::uint16_t>(found - known.digests.begin());
      head.flags |= Message::kKnownKeys;
    } else {
      head.entry = known.next;
      known.digests[known.next] = head.digest;
      known.next = static_cast<std::uint16_t>((known.next + 1) % kKeySets);
    }
    const bool brings = verb == Verb::push;
    const std::size_t floats = brings ? width * slots.size() : 0;
    const std::size_t keys =
        head.flags & Message::kKnownKeys ? 0 : sizeof(std::uint32_t) * slots.size();
    const std::size_t frame = brings && codes ? frame_bound(spec.codec, floats) : 0;
    Buffer packed = pool_.take(keys + std::max(sizeof(float) * floats, frame));
    packed.size = keys + sizeof(float) * floats;
    if (keys > 0) std::memcpy(packed.memory.get(), slots.data(), keys);
    std::byte* at = packed.memory.get() + keys;
    if (floats > 0) {
      for (const std::uint32_t position : parts.positions[server]) {
        std::memcpy(at, gradients.data() + position * width, sizeof(float) * width);
        at += sizeof(float) * width;
      }
    }
    if (brings && codes) {
      const std::uint64_t sender = key_of(static_cast<std::uint64_t>(transport_.rank()), table);
      const Draw draw{key_of(key_of(sender, coding_[table].feedback.pushes), server), 0};
      const std::span<const float> plain(reinterpret_cast<const float*>(packed.memory.get() + keys),
                                         floats);
      const Buffer coded = encode_all(spec.codec, plain, draw, pool_);
      std::ranges::copy(coded.bytes(), packed.memory.get() + keys);
      packed.size = keys + coded.size;
    }
    const std::span<const std::byte> bytes = packed.bytes();
    Call& now = call(server, head, bytes, std::move(packed));
    now.rows_into = into;
    now.positions = std::move(parts.positions[server]);
  }
}

void Client::push_rows(std::size_t table, float rate, std::span<const std::uint64_t> rows,
                       std::span<const float> gradients) {
  request_rows(table, Verb::push, rate, rows, gradients, {});
  ++steps_[table];
  ++coding_[table].feedback.pushes;
}

void Client::pull_rows(std::size_t table, std::span<const std::uint64_t> rows,
                       std::span<float> into) {
  request_rows(table, Verb::pull, 0, rows, {}, into);
}

bool Client::poll(Call& call) {
  bool happened = drop_completed(transport_, call.sends);
  if (!call.heard) {
    if (!transport_.test(call.hears)) return happened;
    call.heard = true;
    hear(call);
    happened = true;
  }
  return drop_completed(transport_, call.slices) || happened;
}

// An answer has come: what it brings goes into its place, or is received into it.
void Client::hear(Call& call) {
  const std::string from = "server " + std::to_string(call.server) + " (rank " +
                           std::to_string(call.rank) + "), " +
                           std::string(kVerbs[static_cast<std::size_t>(call.head.verb)].name);
  const std::size_t arrived = call.hears.arrived;
  Message answer;
  if (!read_header(call.answer.bytes().first(arrived), answer) ||
      answer.request != call.head.request) {
    throw Failure(FailureKind::corrupt, from + ": an answer that is none came", {call.rank});
  }
  const std::span<std::byte> along =
      call.answer.bytes().subspan(sizeof answer, arrived - sizeof answer);
  if (answer.status == Status::refused || answer.status == Status::late) {
    const std::string text(reinterpret_cast<const char*>(along.data()), along.size());
    const std::string& name = tables_[call.head.table].name;
    if (!failure_ && answer.status == Status::late) {
      const std::uint64_t step = call.head.step + (call.head.verb == Verb::push_pull ? 1 : 0);
      failure_ = Failure(FailureKind::timeout, from + " of '" + name + "': the pushes of step " +
                                                   std::to_string(step) +
                                                   " have not come from rank " + text);
    } else if (!failure_) {
      failure_ = Failure(FailureKind::config, from + " refused a request: " + text);
    }
    return;
  }
  if (call.answered) *call.answered = answer;
  if (!kVerbs[static_cast<std::size_t>(call.head.verb)].receives) return;
  call.framed = answer.flags & Message::kFrame;
  const std::size_t values = floats_of(call);
  if (call.piece || call.framed) {
    const TableSpec& spec = tables_[call.head.table];
    const bool asked = call.piece || call.head.flags & Message::kTakesFrames;
    const std::size_t least = call.piece ? 0 : sizeof(FrameHeader);
    const std::size_t most = call.piece || !asked ? kMostPiece : frame_bound(spec.codec, values);
    if (!asked || answer.bytes < least || answer.bytes > most) {
      throw Failure(FailureKind::corrupt, from + ": something else came than was asked for",
                    {call.rank});
    }
    call.received = pool_.take(answer.bytes);
  } else if (!call.rows_into.empty() || call.keeps_told()) {
    call.received = pool_.take(sizeof(float) * values);
  }
  const bool at_once = call.rows_into.empty() && !call.piece && !call.framed && !call.keeps_told();
  const std::span<std::byte> into =
      at_once ? std::as_writable_bytes(call.into) : call.received.bytes();
  if (answer.bytes != into.size() || along.size() != (slices_of(into.size()) ? 0 : into.size())) {
    throw Failure(FailureKind::corrupt,
                  from + ": " + std::to_string(answer.bytes) + " bytes came where " +
                      std::to_string(into.size()) + " were expected",
                  {call.rank});
  }
  if (!call.answered) {
    ++staleness_[std::min<std::size_t>(answer.staleness, staleness_.size() - 1)];
  }
  std::ranges::copy(along, into.begin());
  if (!along.empty()) return;
  for (std::size_t start = 0; start < into.size(); start += kSlice) {
    call.slices.emplace_back();
    transport_.receive(call.slices.back(), call.rank, tag_of(Leg::down, call.head.request),
                       into.subspan(start, std::min(kSlice, into.size() - start)));
  }
}

// Whether an earlier answer has to be taken in first: frames say what has changed since then.
bool Client::must_wait(const Call& call) const {
  if (!call.keeps_told()) return false;
  for (const Call& other : calls_) {
    if (&other == &call) return false;
    if (other.keeps_told() && other.head.table == call.head.table && other.server == call.server) {
      return true;
    }
  }
  return false;
}

// The part of what servers have told that is about this call's server.
std::span<float> Client::told(const Call& call) {
  const std::uint64_t count = tables_[call.head.table].count;
  std::vector<float>& all = coding_[call.head.table].told;
  if (all.empty()) all.resize(count);
  const Range own = dense_range(count, servers(), static_cast<std::uint32_t>(call.server));
  return std::span(all).subspan(own.start, own.length);
}

// Takes in a frame, or parameters of which later frames say what has changed.
void Client::decode(Call& call) {
  if (call.received.size == 0) return;  // or nothing came, as it was refused
  const std::size_t count = floats_of(call);
  if (!call.framed) {
    if (!call.keeps_told()) return;
    std::ranges::copy(call.received.floats(), told(call).begin());
    std::ranges::copy(told(call), call.into.begin());
    return;
  }
  Buffer plain;
  try {
    const Frame frame = open_frame(call.received.bytes(), tables_[call.head.table].codec, count);
    if (call.rows_into.empty()) {
      frame.codec.add(frame.payload, 1, told(call).data());
      std::ranges::copy(told(call), call.into.begin());
      return;
    }
    plain = pool_.take(sizeof(float) * count);
    frame.codec.decode(frame.payload, plain.floats().data());
  } catch (const Failure& failure) {
    throw failure.during("from server " + std::to_string(call.server) + " (rank " +
                         std::to_string(call.rank) + ")");
  }
  pool_.give(std::exchange(call.received, std::move(plain)));
}

// Rows go to where the caller wants them.
void Client::finish(Call& call) {
  decode(call);
  if (!call.rows_into.empty() && call.received.size > 0) {  // nothing came where it was refused
    const std::size_t width = tables_[call.head.table].width;
    const float* from = call.received.floats().data();
    for (const std::uint32_t position : call.positions) {
      std::memcpy(call.rows_into.data() + position * width, from, sizeof(float) * width);
      from += width;
    }
  }
  if (call.piece) *call.piece = std::move(call.received);
  pool_.give(std::move(call.request));
  pool_.give(std::move(call.answer));
  pool_.give(std::move(call.sent));
  pool_.give(std::move(call.received));
}

void Client::settle(Deadline deadline) {
  Backoff backoff;
  while (!calls_.empty()) {
    bool happened = false;
    for (auto call = calls_.begin(); call != calls_.end();) {
      happened |= poll(*call);
      if (call->heard && call->sends.empty() && call->slices.empty() && !must_wait(*call)) {
        happened = true;
        finish(*call);
        call = calls_.erase(call);
      } else {
        ++call;
      }
    }
    if (happened) {
      backoff.busy();
    } else {
      transport_.keep_waiting_for(calls_.front().rank, deadline);
      backoff.idle();
    }
  }
  if (const auto failure = std::exchange(failure_, std::nullopt)) throw *failure;
}

// Says something that needs no more than its verb.
void Client::tell_all(Verb verb, Deadline deadline) {
  begin_request();
  for (std::uint32_t server = 0; server < servers(); ++server) {
    call(server, {.verb = verb, .request = requests_}, {});
  }
  settle(deadline);
}

void Client::leave(Deadline deadline) { tell_all(Verb::leave, deadline); }

void Client::observe(Deadline deadline) { tell_all(Verb::observe, deadline); }

std::uint64_t Client::share(std::size_t table, std::uint32_t server) const {
  const TableSpec& spec = tables_.at(table);
  if (spec.kind == TableSpec::Kind::rows) return spec.rows(servers()).slots(server);
  return dense_range(spec.count, servers(), server).length;
}

}  // namespace mls
