// Messages over MPI. Waiting polls, because MPI has no wait with a deadline: it spins for some
// microseconds, then gives way to other threads, then sleeps, so that a background thread leaves
// the cores to the computation. MPI_Waitall is avoided, as it aborts under ULFM (Open MPI 5).
#include "comm/mpi.hpp"

#include <mpi.h>
#include <sched.h>

#include <climits>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace mls {
namespace {

using namespace std::chrono_literals;

static_assert(sizeof(MPI_Request) <= sizeof(std::uintptr_t));

constexpr int kPolls = 50;         // before the clock is read for the first time
constexpr auto kSpin = 20us;       // then polls that keep the core
constexpr auto kYield = 200us;     // then polls that give way to other threads
constexpr auto kNap = 30us;        // then sleeps between polls
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

  void wait(Request& request, Deadline deadline) override {
    if (request.kind == Request::Kind::none) return;
    MPI_Request handle = handle_of(request);
    MPI_Status status;
    Clock::time_point slow_since;
    for (int polls = 0;; ++polls) {
      int done = 0;
      const int code = MPI_Test(&handle, &done, &status);
      store(request, handle);
      if (code != MPI_SUCCESS) fail_at(request, code);
      if (done) break;
      if (polls < kPolls) continue;
      keep_waiting(request, deadline);
      const Clock::time_point now = Clock::now();
      if (polls == kPolls) slow_since = now;
      if (now - slow_since < kSpin) continue;
      if (now - slow_since < kYield) {
        sched_yield();
      } else {
        std::this_thread::sleep_for(kNap);
      }
    }
    if (request.kind == Request::Kind::receive) {
      int arrived = 0;
      MPI_Get_count(&status, MPI_BYTE, &arrived);
      request.kind = Request::Kind::none;
      check_length(request, static_cast<std::size_t>(arrived));
    }
    request.kind = Request::Kind::none;
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
