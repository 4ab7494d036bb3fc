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

#include "base/failure.hpp"

namespace mls {
namespace {

static_assert(sizeof(MPI_Request) <= sizeof(std::uintptr_t));

constexpr int kSpins = 2000;    // polls without giving way, some ten to hundred microseconds
constexpr int kYields = 200;    // polls that give way to other threads
constexpr auto kNap = std::chrono::microseconds(20);

std::string text_of(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return "unknown MPI error";
  return std::string(text, static_cast<std::size_t>(length));
}

class MpiTransport final : public Transport {
 public:
  MpiTransport(MPI_Comm comm, int rank, int size) : Transport(rank, size), comm_(comm) {}

  void send(Request& request, int peer, Tag tag, std::span<const std::byte> bytes) override {
    MPI_Request started = MPI_REQUEST_NULL;
    begin(request, Request::Kind::send, peer, tag, {});
    const int code = MPI_Isend(bytes.data(), length_of(bytes.size()), MPI_BYTE, peer, tag.value,
                               comm_, &started);
    keep(request, started, code);
  }

  void receive(Request& request, int peer, Tag tag, std::span<std::byte> bytes) override {
    MPI_Request started = MPI_REQUEST_NULL;
    begin(request, Request::Kind::receive, peer, tag, bytes);
    const int code = MPI_Irecv(bytes.data(), length_of(bytes.size()), MPI_BYTE, peer, tag.value,
                               comm_, &started);
    keep(request, started, code);
  }

  void wait(Request& request, Deadline deadline) override {
    if (request.kind == Request::Kind::none) return;
    MPI_Request handle = handle_of(request);
    MPI_Status status;
    for (int polls = 0;; ++polls) {
      int done = 0;
      const int code = MPI_Test(&handle, &done, &status);
      store(request, handle);
      if (code != MPI_SUCCESS) {
        request.kind = Request::Kind::none;
        throw Failure(FailureKind::rank_failed, name_of(request) + ": " + text_of(code),
                      {request.peer});
      }
      if (done) break;
      if (polls < kSpins) continue;
      if (abandoned()) throw Failure(FailureKind::timeout, name_of(request) + ": abandoned");
      if (Clock::now() >= deadline) {
        throw Failure(FailureKind::timeout, name_of(request) + ": no answer", {request.peer});
      }
      if (polls < kSpins + kYields) {
        sched_yield();
      } else {
        std::this_thread::sleep_for(kNap);
      }
    }
    if (request.kind == Request::Kind::receive) check_length(request, status);
    request.kind = Request::Kind::none;
  }

  void cancel(Request& request) noexcept override {
    if (request.kind == Request::Kind::none) return;
    MPI_Request handle = handle_of(request);
    if (request.kind == Request::Kind::receive) MPI_Cancel(&handle);
    MPI_Request_free(&handle);
    request.kind = Request::Kind::none;
  }

 private:
  static int length_of(std::size_t bytes) {
    if (bytes > INT_MAX) {
      throw Failure(FailureKind::config, "a segment is longer than 2 GiB; set a smaller one");
    }
    return static_cast<int>(bytes);
  }

  static void begin(Request& request, Request::Kind kind, int peer, Tag tag,
                    std::span<std::byte> bytes) {
    request = {.kind = kind, .peer = peer, .tag = tag.value, .bytes = bytes};
  }

  static void keep(Request& request, MPI_Request started, int code) {
    if (code != MPI_SUCCESS) {
      request.kind = Request::Kind::none;
      throw Failure(FailureKind::rank_failed, name_of(request) + ": " + text_of(code),
                    {request.peer});
    }
    store(request, started);
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

  static std::string name_of(const Request& request) {
    const bool sends = request.kind == Request::Kind::send;
    return (sends ? "send to rank " : "receive from rank ") + std::to_string(request.peer);
  }

  static void check_length(const Request& request, const MPI_Status& status) {
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    if (static_cast<std::size_t>(bytes) != request.bytes.size()) {
      throw Failure(FailureKind::config, "rank " + std::to_string(request.peer) + " sent " +
                                             std::to_string(bytes) + " bytes where " +
                                             std::to_string(request.bytes.size()) +
                                             " were expected");
    }
  }

  MPI_Comm comm_;
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
