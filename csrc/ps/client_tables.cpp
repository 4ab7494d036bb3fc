// Whole tables: read, written, and as snapshots, a request at a time.
#include <cstring>
#include <utility>

#include "ps/client_call.hpp"

namespace mls {

Client::Share Client::read(std::size_t table, std::uint32_t server, Range range,
                           std::span<float> into, Deadline deadline) {
  settle(deadline);
  begin_request();
  const Message head{.verb = Verb::read,
                     .table = static_cast<std::uint16_t>(table),
                     .request = requests_,
                     .count = range.length,
                     .start = range.start};
  Call& now = call(server, head, {});
  now.into = into;
  Message answer;
  now.answered = &answer;
  settle(deadline);
  return {answer.updates, answer.step};
}

void Client::write(std::size_t table, std::uint32_t server, Range range,
                   std::span<const float> from, Share share, Deadline deadline) {
  settle(deadline);
  begin_request();
  const Message head{.verb = Verb::write,
                     .table = static_cast<std::uint16_t>(table),
                     .request = requests_,
                     .step = share.steps,
                     .count = range.length,
                     .start = range.start,
                     .updates = share.updates};
  call(server, head, std::as_bytes(from));
  settle(deadline);
}

// A new request about a snapshot that was begun.
Message Client::about_snapshot(std::size_t table, Verb verb, std::uint64_t number) {
  begin_request();
  return {.verb = verb,
          .table = static_cast<std::uint16_t>(table),
          .request = requests_,
          .start = number};
}

Client::Begun Client::snapshot(std::size_t table, std::uint32_t server,
                               std::optional<std::uint64_t> since, Deadline deadline) {
  settle(deadline);
  begin_request();
  const Message head{.verb = Verb::snapshot,
                     .flags = since ? Message::kSince : std::uint8_t{0},
                     .table = static_cast<std::uint16_t>(table),
                     .request = requests_,
                     .step = steps_.at(table),
                     .start = since.value_or(0)};
  Message answer;
  call(server, head, {}).answered = &answer;
  settle(deadline);
  return {answer.start, answer.updates};
}

std::optional<Piece> Client::piece(std::size_t table, std::uint32_t server, std::uint64_t number,
                                   Deadline deadline) {
  settle(deadline);
  Message answer;
  Buffer buffer;
  Call& now = call(server, about_snapshot(table, Verb::piece, number), {});
  now.answered = &answer;
  now.piece = &buffer;
  settle(deadline);
  if (answer.flags & Message::kEnd) return std::nullopt;
  Piece piece;
  const std::span<const std::byte> bytes = buffer.bytes();
  bool sound = answer.count <= bytes.size() / sizeof(Range);
  std::uint64_t entries = 0, at = 0;
  if (sound) {
    piece.ranges.resize(answer.count);
    if (answer.count > 0) {
      std::memcpy(piece.ranges.data(), bytes.data(), sizeof(Range) * answer.count);
    }
    const std::uint64_t most = this->share(table, server);
    for (const Range range : piece.ranges) {
      sound =
          sound && range.start >= at && range.start <= most && range.length <= most - range.start;
      at = range.start + range.length;
      entries += range.length;
    }
  }
  const std::size_t ahead = sizeof(Range) * piece.ranges.size();
  if (!sound || bytes.size() - ahead != sizeof(float) * entries * tables_[table].width) {
    throw Failure(FailureKind::corrupt,
                  "server " + std::to_string(server) + " (rank " + std::to_string(ranks_[server]) +
                      "): a piece of a snapshot that is none came",
                  {ranks_[server]});
  }
  piece.values.resize((bytes.size() - ahead) / sizeof(float));
  if (!piece.values.empty()) {
    std::memcpy(piece.values.data(), bytes.data() + ahead, bytes.size() - ahead);
  }
  pool_.give(std::move(buffer));
  return piece;
}

void Client::drop(std::size_t table, std::uint32_t server, std::uint64_t number,
                  Deadline deadline) {
  settle(deadline);
  call(server, about_snapshot(table, Verb::drop, number), {});
  settle(deadline);
}

}  // namespace mls
