#include "comm/intent.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

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

// In the order in which differences are reported.
enum Field : std::size_t {
  kSequence,
  kOperation,
  kDType,
  kDetail,
  kCount,
  kSegment,
  kAlgorithm,
  kOrder
};

constexpr std::int64_t kNoFault = std::numeric_limits<std::int64_t>::max();

std::string operation_named(std::int64_t value) {
  switch (static_cast<Operation>(value)) {
    case Operation::barrier:
      return "barrier";
    case Operation::all_reduce:
      return "all-reduce";
    case Operation::broadcast:
      return "broadcast";
    case Operation::all_gather:
      return "all-gather";
    case Operation::reduce_scatter:
      return "reduce-scatter";
    case Operation::all_to_all:
      return "all-to-all";
    case Operation::compressed_all_reduce:
      return "compressed all-reduce";
  }
  return "an unknown operation";
}

std::string dtype_named_by(std::int64_t value) {
  if (value >= 0 && value < std::int64_t{kDTypes.size()}) {
    return std::string(name_of(static_cast<DType>(value)));
  }
  return "another type of " + std::to_string((-1 - value) & 0xffff) + " bytes";
}

bool reduces(Operation operation) {
  return operation == Operation::all_reduce || operation == Operation::reduce_scatter ||
         operation == Operation::compressed_all_reduce;
}

std::string detail_named(Operation operation, std::int64_t value) {
  if (operation == Operation::all_gather) return "other lengths of parts";
  if (operation == Operation::compressed_all_reduce) {
    return "a compression with the fingerprint " + std::to_string(value);
  }
  if (!reduces(operation)) return "root " + std::to_string(value);
  constexpr std::array<const char*, 5> names{"sum", "min", "max", "product", "average"};
  static_assert(static_cast<int>(ReduceOp::product) == 3 && kAverage == 4);
  return value >= 0 && value < 5 ? std::string("'") + names[static_cast<std::size_t>(value)] + "'"
                                 : "an unknown operation";
}

std::string algorithm_name(std::int64_t value) {
  const bool known = value >= 0 && value < std::int64_t{kAlgorithms.size()};
  return known ? "'" + std::string(kAlgorithms[static_cast<std::size_t>(value)]) + "'" : "unknown";
}

// What a rank did, in words: the value of a field. `operation` and `dtype` are those of all ranks
// where they are needed.
std::string told(std::size_t field, std::int64_t value, Operation operation, std::int64_t dtype) {
  const std::string number = std::to_string(value);
  switch (field) {
    case kSequence:
      return "is at its collective #" + number;
    case kOperation:
      return "called " + operation_named(value);
    case kDType:
      return "passed " + dtype_named_by(value);
    case kDetail:
      return "asked for " + detail_named(operation, value);
    case kCount:
      return "passed " + number +
             (reduces(operation) ? " elements of " + dtype_named_by(dtype) : " bytes");
    case kSegment:
      return operation == Operation::reduce_scatter ? "passed rows of " + number + " elements"
                                                    : "asked for segments of " + number + " bytes";
    case kAlgorithm:
      return "asked for the algorithm " + algorithm_name(value);
    default:
      return std::string("asked for the order ") + (value == 0 ? "'any'" : "'tree'");
  }
}

std::string reason_of(Fault fault) {
  switch (fault) {
    case Fault::not_an_array:
      return "an object that shares no memory; pass a NumPy array or another buffer";
    case Fault::not_contiguous:
      return "an array that is not C-contiguous; pass numpy.ascontiguousarray(x) and copy back";
    case Fault::read_only:
      return "an array that is read-only; pass a copy";
    case Fault::unsupported_dtype:
      return "an array of an unsupported dtype; use a float or an integer type";
    case Fault::foreign_byte_order:
      return "an array that is not in native byte order; pass x.astype(x.dtype.newbyteorder('='))";
    case Fault::unknown_operation:
      return "an operation that is unknown; use 'sum', 'average', 'min', 'max' or 'product'";
    case Fault::bad_root:
      return "a root that is not a rank";
    case Fault::wrong_size:
      return "counts that do not fit its arrays or the number of ranks";
    case Fault::unknown_algorithm:
      return "an algorithm that is unknown; use 'auto' or see comm.algorithm in docs/job-file.md";
    case Fault::average_of_integers:
      return "integers for an average, which they cannot hold; use 'sum', or convert to floats";
    case Fault::several_nodes:
      return "the algorithm 'shared', but the ranks are on several nodes or share no memory; use "
             "'hierarchical' or 'auto'";
    case Fault::no_fixed_order:
      return "an algorithm that cannot sum in the order 'tree'; use 'auto', 'shared', 'doubling' "
             "or "
             "'halving'";
    case Fault::none:
      break;
  }
  return "nothing wrong";
}

}  // namespace

Known::Known(const Intent& intent, std::uint32_t sequence, int rank)
    : fault_(intent.fault == Fault::none
                 ? kNoFault
                 : (std::int64_t{rank} << 8) | static_cast<std::int64_t>(intent.fault)) {
  std::array<std::int64_t, kFields> values{};
  values[kSequence] = sequence;
  values[kOperation] = static_cast<std::int64_t>(intent.operation);
  values[kDType] = intent.dtype;
  values[kDetail] = intent.detail;
  values[kCount] = static_cast<std::int64_t>(intent.count);
  values[kSegment] = static_cast<std::int64_t>(intent.segment);
  values[kAlgorithm] = static_cast<std::int64_t>(intent.algorithm);
  values[kOrder] = static_cast<std::int64_t>(intent.order);
  static_assert(kOrder + 1 == kFields);
  for (std::size_t i = 0; i < kFields; ++i) {
    least_[i] = pack(values[i], rank);
    most_[i] = pack(-values[i], rank);
  }
}

void Known::add(const Known& other) {
  for (std::size_t i = 0; i < kFields; ++i) {
    least_[i] = std::min(least_[i], other.least_[i]);
    most_[i] = std::min(most_[i], other.most_[i]);
  }
  fault_ = std::min(fault_, other.fault_);
}

bool Known::alike() const {
  const auto same = [](std::int64_t least, std::int64_t most) {
    return value_of(least) == -value_of(most);
  };
  return fault_ == kNoFault && std::ranges::equal(least_, most_, same);
}

void Known::judge() const {
  if (fault_ != kNoFault) {
    const std::string rank = std::to_string(fault_ >> 8);
    throw Failure(FailureKind::config,
                  "rank " + rank + " passed " + reason_of(static_cast<Fault>(fault_ & 0xff)), {},
                  true);
  }
  const auto operation = static_cast<Operation>(value_of(least_[kOperation]));
  const std::int64_t dtype = value_of(least_[kDType]);
  for (std::size_t i = 0; i < kFields; ++i) {
    const std::int64_t least = value_of(least_[i]);
    const std::int64_t most = -value_of(most_[i]);
    if (least == most) continue;
    std::pair one{rank_of(least_[i]), least};
    std::pair other{rank_of(most_[i]), most};
    if (other.first < one.first) std::swap(one, other);
    const auto did = [&](const std::pair<int, std::int64_t>& rank) {
      return "rank " + std::to_string(rank.first) + " " + told(i, rank.second, operation, dtype);
    };
    throw Failure(FailureKind::config, "the ranks disagree: " + did(one) + ", " + did(other), {},
                  true);
  }
}

void compare(std::span<const Caller> callers) {
  const auto alike = [&](const Caller& caller) { return caller == callers.front(); };
  if (callers.front().intent.fault == Fault::none && std::ranges::all_of(callers, alike)) return;
  Known known(callers.front().intent, callers.front().sequence, 0);
  for (std::size_t rank = 1; rank < callers.size(); ++rank) {
    known.add({callers[rank].intent, callers[rank].sequence, static_cast<int>(rank)});
  }
  known.judge();
}

void refuse(Fault fault, int rank) {
  throw Failure(FailureKind::config,
                "rank " + std::to_string(rank) + " passed " + reason_of(fault));
}

}  // namespace mls
