#include "store/memory.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

#include "base/failure.hpp"

namespace mls {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kLarge = 1 << 20;  // bytes from which on pages are taken from the system

std::size_t rounded(std::size_t bytes) {
  const std::size_t unit = bytes < kLarge ? kLine : kPage;
  if (bytes > std::numeric_limits<std::size_t>::max() - unit) return bytes;
  return (bytes + unit - 1) / unit * unit;
}

void* from_system(std::size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
#ifdef MADV_HUGEPAGE
  madvise(data, bytes, MADV_HUGEPAGE);  // a wish
#endif
  return data;
}

}  // namespace

Memory::Memory(std::size_t bytes) : bytes_(rounded(bytes)) {
  if (bytes_ == 0) return;
  data_ = bytes_ < kLarge ? std::aligned_alloc(kLine, bytes_) : from_system(bytes_);
  if (data_ == nullptr) {
    throw Failure(FailureKind::config, "a table of " + std::to_string(bytes) +
                                           " bytes does not fit this machine's memory");
  }
  if (bytes_ < kLarge) std::memset(data_, 0, bytes_);
}

Memory::~Memory() {
  if (bytes_ < kLarge) {
    std::free(data_);
  } else {
    munmap(data_, bytes_);
  }
}

}  // namespace mls
