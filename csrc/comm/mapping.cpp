#include "comm/mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>

namespace mls {
namespace {

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int get() const { return descriptor_; }
  bool good() const { return descriptor_ >= 0; }

 private:
  int descriptor_;
};

// What the others need to open the file of rank 0. The number tells files of equal names apart,
// which two machines could have.
struct Address {
  std::int64_t process;
  std::int64_t descriptor;
  std::int64_t number;
};

constexpr std::int64_t kNone = -1;

std::byte* mapped(const File& file, std::size_t bytes) {
  if (!file.good()) return nullptr;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
}

std::uint32_t inode_of(const File& file) {
  struct stat status = {};
  return fstat(file.get(), &status) == 0 ? static_cast<std::uint32_t>(status.st_ino) : 0;
}

int opened(const Address& address) {
  if (address.descriptor == kNone) return -1;
  const std::string path =
      "/proc/" + std::to_string(address.process) + "/fd/" + std::to_string(address.descriptor);
  return open(path.c_str(), O_RDWR | O_CLOEXEC);
}

// Whether this is true on all ranks.
bool everywhere(Transport& transport, bool here, const Options& options) {
  std::array<std::uint8_t, 1> flag{static_cast<std::uint8_t>(here ? 1 : 0)};
  all_reduce(transport, std::as_writable_bytes(std::span(flag)),
             {.dtype = DType::u8, .op = ReduceOp::min, .options = options});
  return flag[0] == 1;
}

}  // namespace

Mapping::~Mapping() { munmap(data_, size_); }

std::shared_ptr<Mapping> share_memory(Transport& transport, std::size_t bytes,
                                      const Options& options) {
  const bool first = transport.rank() == 0;
  const File made(first ? memfd_create("mpimlsys", MFD_CLOEXEC) : -1);
  Address address{getpid(), kNone, Clock::now().time_since_epoch().count()};
  std::byte* data = nullptr;
  std::uint32_t number = 0;
  // reserved at once: a page that cannot be had later would end the process by a signal
  if (made.good() && posix_fallocate(made.get(), 0, static_cast<off_t>(bytes)) == 0) {
    data = mapped(made, bytes);
    number = inode_of(made);
    if (data != nullptr) {
      address.descriptor = made.get();
      *reinterpret_cast<std::int64_t*>(data) = address.number;
    }
  }
  broadcast(transport, std::as_writable_bytes(std::span(&address, 1)), 0, -1, options);
  if (!first) {
    const File file(opened(address));
    data = mapped(file, bytes);
    number = inode_of(file);
  }
  std::shared_ptr<Mapping> mapping;
  if (data != nullptr) mapping.reset(new Mapping(data, bytes, number));
  const bool same = data != nullptr && *reinterpret_cast<std::int64_t*>(data) == address.number;
  if (!everywhere(transport, same, options)) return nullptr;
  if (first) *reinterpret_cast<std::int64_t*>(data) = 0;
  barrier(transport, options);
  return mapping;
}

}  // namespace mls
