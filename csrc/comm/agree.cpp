#include "comm/agree.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "base/dtype.hpp"
#include "base/failure.hpp"

namespace mls {
namespace {

// A value and the lowest rank that has it, in one number whose minimum is the smallest value.
constexpr int kRankBits = 20;
constexpr std::int64_t kMask = (std::int64_t{1} << kRankBits) - 1;

constexpr std::int64_t pack(std::int64_t value, int rank) { return (value << kRankBits) | rank; }
constexpr std::int64_t value_of(std::int64_t packed) { return packed >> kRankBits; }
constexpr int rank_of(std::int64_t packed) { return static_cast<int>(packed & kMask); }

static_assert(value_of(pack(-7, 3)) == -7 && rank_of(pack(-7, 3)) == 3);

enum Field : std::size_t { kOperation, kDType, kDetail, kCount, kFields };

struct Header {
  std::array<std::int64_t, kFields> least;
  std::array<std::int64_t, kFields> most;  // negated, so that it is a minimum too
  std::int64_t fault;                      // the faulty rank, or the largest number
};

Header header_of(const Intent& intent, int rank) {
  const std::array<std::int64_t, kFields> values{
      static_cast<std::int64_t>(intent.operation), intent.dtype, intent.detail,
      static_cast<std::int64_t>(intent.count)};
  Header header{};
  for (std::size_t i = 0; i < kFields; ++i) {
    header.least[i] = pack(values[i], rank);
    header.most[i] = pack(-values[i], rank);
  }
  header.fault = intent.fault == Fault::none
                     ? std::numeric_limits<std::int64_t>::max()
                     : (std::int64_t{rank} << 8) | static_cast<std::int64_t>(intent.fault);
  return header;
}

void combine(Header& into, const Header& from) {
  for (std::size_t i = 0; i < kFields; ++i) {
    into.least[i] = std::min(into.least[i], from.least[i]);
    into.most[i] = std::min(into.most[i], from.most[i]);
  }
  into.fault = std::min(into.fault, from.fault);
}

std::string shown(Field field, std::int64_t value) {
  constexpr std::array<const char*, 4> operations{"barrier", "all-reduce", "broadcast",
                                                  "all-gather"};
  if (field == kOperation) return operations[static_cast<std::size_t>(value) % 4];
  if (field == kDType) {
    return std::string(value >= 0 && value < std::int64_t{kDTypes.size()}
                           ? name_of(static_cast<DType>(value))
                           : "bytes");
  }
  return std::to_string(value);
}

std::string reason_of(Fault fault) {
  switch (fault) {
    case Fault::not_contiguous:
      return "an array that is not C-contiguous; pass numpy.ascontiguousarray(x) and copy back";
    case Fault::read_only:
      return "an array that is read-only; pass a copy";
    case Fault::unsupported_dtype:
      return "an array of a dtype that cannot be reduced; use a float or an integer type";
    case Fault::misaligned:
      return "an array that is not aligned or not in native byte order; pass a copy";
    case Fault::bad_root:
      return "a root that is not a rank";
    case Fault::wrong_size:
      return "a receive array that does not hold one part per rank";
    case Fault::none:
      break;
  }
  return "no reason";
}

void judge(const Header& header) {
  if (header.fault != std::numeric_limits<std::int64_t>::max()) {
    const auto fault = static_cast<Fault>(header.fault & 0xff);
    throw Failure(FailureKind::config,
                  "rank " + std::to_string(header.fault >> 8) + " passed " + reason_of(fault));
  }
  constexpr std::array<const char*, kFields> what{"called", "passed dtype",
                                                  "passed the option (operation or root)",
                                                  "passed a number of elements of"};
  for (std::size_t i = 0; i < kFields; ++i) {
    const std::int64_t least = value_of(header.least[i]);
    const std::int64_t most = -value_of(header.most[i]);
    if (least != most) {
      const auto field = static_cast<Field>(i);
      throw Failure(FailureKind::config,
                    "the ranks disagree: rank " + std::to_string(rank_of(header.least[i])) + " " +
                        what[i] + " " + shown(field, least) + ", rank " +
                        std::to_string(rank_of(header.most[i])) + " " + shown(field, most));
    }
  }
}

}  // namespace

void agree(Transport& transport, const Intent& intent, std::uint32_t sequence, Deadline deadline) {
  const int rank = transport.rank();
  const int size = transport.size();
  Header known = header_of(intent, rank);
  std::uint64_t round = 0;
  for (int distance = 1; distance < size; distance *= 2, ++round) {
    const Header sent = known;
    Header heard{};
    const Tag tag(Channel::agree, sequence, round);
    Request receive;
    Request send;
    const int from = (rank + size - distance) % size;
    try {
      transport.receive(receive, from, tag, std::as_writable_bytes(std::span(&heard, 1)));
      transport.send(send, (rank + distance) % size, tag, std::as_bytes(std::span(&sent, 1)));
      transport.wait(receive, deadline);
      transport.wait(send, deadline);
    } catch (const Failure& failure) {
      transport.cancel(receive);
      transport.cancel(send);
      throw failure.during("agreeing on what to do, round " + std::to_string(round + 1));
    }
    combine(known, heard);
  }
  judge(known);
}

}  // namespace mls
