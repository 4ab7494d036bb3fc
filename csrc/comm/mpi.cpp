// Messages over MPI. Waiting polls, because MPI has no wait with a deadline: it spins for some
// microseconds, then gives way to other threads, then sleeps, so that a background thread leaves
// the cores to the computation. MPI_Waitall is avoided, as it aborts under ULFM (Open MPI 5).
#include "comm/mpi.hpp"

#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <thread>

#include "base/nap.hpp"

namespace mls {
namespace {

using namespace std::chrono_literals;

static_assert(sizeof(MPI_Request) <= sizeof(std::uintptr_t));

constexpr int kPolls = 50;      // before the clock is read for the first time
constexpr auto kSpin = 20us;    // then polls that keep the core
constexpr auto kYield = 200us;  // then polls that give way to other threads
constexpr auto kNap = 30us;     // then sleeps between polls, that grow with the wait
constexpr auto kLongNap = 90us;
constexpr auto kTakeBack = 100ms;  // to learn what became of a request that was given up

std::string text_of(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return "unknown MPI error";
  return std::string(text, static_cast<std::size_t>(length));
}

// A message that is longer than its receive is the caller's mistake; everything else that MPI
// reports of a message means that its peer cannot be reached.
FailureKind kind_of(int code) {
  int error_class = code;
  MPI_Error_class(code, &error_class);
  return error_class == MPI_ERR_TRUNCATE ? FailureKind::config : FailureKind::rank_failed;
}

constexpr std::size_t kMostElements = std::size_t{1} << 30;

// None for the 16-bit floats, which MPI does not know.
std::optional<MPI_Datatype> type_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
    case DType::bf16:
      return std::nullopt;
    case DType::f32:
      return MPI_FLOAT;
    case DType::f64:
      return MPI_DOUBLE;
    case DType::i8:
      return MPI_INT8_T;
    case DType::u8:
      return MPI_UINT8_T;
    case DType::i16:
      return MPI_INT16_T;
    case DType::u16:
      return MPI_UINT16_T;
    case DType::i32:
      return MPI_INT32_T;
    case DType::u32:
      return MPI_UINT32_T;
    case DType::i64:
      return MPI_INT64_T;
    case DType::u64:
      return MPI_UINT64_T;
  }
  return std::nullopt;
}

MPI_Op operation_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::min:
      return MPI_MIN;
    case ReduceOp::max:
      return MPI_MAX;
    case ReduceOp::product:
      return MPI_PROD;
    case ReduceOp::sum:
      break;
  }
  return MPI_SUM;
}

class MpiTransport final : public Transport {
 public:
  MpiTransport(MPI_Comm comm, int rank, int size) : Transport(rank, size), comm_(comm) {}

  void send(Request& request, int peer, Tag tag, std::span<const std::byte> bytes) override {
    MPI_Request handle = MPI_REQUEST_NULL;
    request = {.kind = Request::Kind::send, .peer = peer, .tag = tag.value, .bytes = {}};
    const int length = length_of(request, bytes.size());
    const int code = MPI_Isend(bytes.data(), length, MPI_BYTE, peer, tag.value, comm_, &handle);
    started(request, handle, code);
  }

  void receive(Request& request, int peer, Tag tag, std::span<std::byte> bytes) override {
    MPI_Request handle = MPI_REQUEST_NULL;
    request = {.kind = Request::Kind::receive, .peer = peer, .tag = tag.value, .bytes = bytes};
    const int length = length_of(request, bytes.size());
    const int code = MPI_Irecv(bytes.data(), length, MPI_BYTE, peer, tag.value, comm_, &handle);
    started(request, handle, code);
  }

  bool own_all_reduce(std::span<std::byte> data, const Combine& how, Deadline deadline) override {
    const std::optional<MPI_Datatype> type = type_of(how.dtype);
    if (!type) return false;
    const std::size_t element = size_of(how.dtype);
    const std::size_t count = data.size() / element;
    for (std::size_t start = 0; start < count; start += kMostElements) {
      const auto length = static_cast<int>(std::min(count - start, kMostElements));
      MPI_Request handle = MPI_REQUEST_NULL;
      Request request{.kind = Request::Kind::collective, .bytes = {}};
      const int code = MPI_Iallreduce(MPI_IN_PLACE, data.data() + start * element, length, *type,
                                      operation_of(how.op), comm_, &handle);
      started(request, handle, code);
      wait(request, deadline);
    }
    if (how.divisor > 1) divide(how.dtype, data.data(), count, how.divisor);
    return true;
  }

  bool test(Request& request) override {
    if (request.kind == Request::Kind::none) return true;
    MPI_Request handle = handle_of(request);
    MPI_Status status;
    int done = 0;
    const int code = MPI_Test(&handle, &done, &status);
    store(request, handle);
    if (code != MPI_SUCCESS) fail_at(request, code);
    if (!done) return false;
    const bool receives = request.kind == Request::Kind::receive;
    request.kind = Request::Kind::none;
    if (receives) {
      int arrived = 0;
      MPI_Get_count(&status, MPI_BYTE, &arrived);
      check_length(request, static_cast<std::size_t>(arrived));
    }
    return true;
  }

  std::optional<Arrival> probe(Tag tag) override {
    int found = 0;
    MPI_Status status;
    const int code = MPI_Iprobe(MPI_ANY_SOURCE, tag.value, comm_, &found, &status);
    if (code != MPI_SUCCESS) throw Failure(kind_of(code), "probe: " + text_of(code));
    if (!found) return std::nullopt;
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    return Arrival{status.MPI_SOURCE, static_cast<std::size_t>(bytes)};
  }

  void wait(Request& request, Deadline deadline) override {
    Clock::time_point slow_since;
    for (int polls = 0; !test(request); ++polls) {
      if (polls < kPolls) continue;
      keep_waiting(request, deadline);
      const Clock::time_point now = Clock::now();
      if (polls == kPolls) slow_since = now;
      if (now - slow_since < kSpin) continue;
      if (now - slow_since < kYield) {
        sched_yield();
      } else {
        const auto waited = std::chrono::duration_cast<std::chrono::microseconds>(now - slow_since);
        nap(std::clamp<std::chrono::microseconds>(waited / 32, kNap, kLongNap));
      }
    }
  }

 private:
  bool take_back(Request& request) noexcept override {
    MPI_Request handle = handle_of(request);
    if (handle == MPI_REQUEST_NULL) return true;
    if (request.kind == Request::Kind::receive) MPI_Cancel(&handle);
    const Deadline deadline = Clock::now() + (unsettled() ? 0ms : kTakeBack);
    do {
      int done = 0;
      if (MPI_Test(&handle, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done) return done != 0;
      std::this_thread::sleep_for(kNap);
    } while (Clock::now() < deadline);
    MPI_Request_free(&handle);
    return false;
  }

  int length_of(const Request& request, std::size_t bytes) {
    if (bytes > INT_MAX) fail(FailureKind::config, request, "longer than 2 GiB");
    return static_cast<int>(bytes);
  }

  void started(Request& request, MPI_Request handle, int code) {
    store(request, handle);
    if (code != MPI_SUCCESS) fail_at(request, code);
  }

  // MPI has ended a request that it reports an error of.
  [[noreturn]] void fail_at(Request& request, int code) {
    const Request failed = request;
    if (handle_of(request) == MPI_REQUEST_NULL) request.kind = Request::Kind::none;
    fail(kind_of(code), failed, text_of(code));
  }

  static void store(Request& request, MPI_Request handle) {
    request.handle = 0;
    std::memcpy(&request.handle, &handle, sizeof handle);
  }

  static MPI_Request handle_of(const Request& request) {
    MPI_Request handle;
    std::memcpy(&handle, &request.handle, sizeof handle);
    return handle;
  }

  const MPI_Comm comm_;
};

}  // namespace

MpiBuild mpi_build() {
#if defined(OPEN_MPI)
  return {"openmpi",
          "Open MPI " + std::to_string(OMPI_MAJOR_VERSION) + "." +
              std::to_string(OMPI_MINOR_VERSION) + "." + std::to_string(OMPI_RELEASE_VERSION),
          sizeof(MPI_Comm)};
#elif defined(MPICH_VERSION)
  return {"mpich", "MPICH " MPICH_VERSION, sizeof(MPI_Comm)};
#else
  return {"mpich", "MPI with integer handles", sizeof(MPI_Comm)};
#endif
}

std::unique_ptr<Transport> mpi_transport(std::uintptr_t comm_address) {
  MPI_Comm comm;
  std::memcpy(&comm, reinterpret_cast<const void*>(comm_address), sizeof comm);
  int rank = 0;
  int size = 0;
  if (MPI_Comm_rank(comm, &rank) != MPI_SUCCESS || MPI_Comm_size(comm, &size) != MPI_SUCCESS) {
    throw std::invalid_argument("not a communicator");
  }
  return std::make_unique<MpiTransport>(comm, rank, size);
}

}  // namespace mls
