#include "comm/window.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "comm/topology.hpp"

namespace mls {
namespace {

constexpr std::size_t kPageBytes = 4096;

// The windows of this process by the start of their own block. Threads that are ranks share it, and
// then have blocks of their own.
struct Registry {
  std::mutex mutex;
  std::map<const std::byte*, std::weak_ptr<Window>> windows;
};

Registry& registry() {
  static Registry all;
  return all;
}

// At least a page, so that every block has an address of its own.
std::size_t stride_of(std::size_t block_bytes) {
  return std::max<std::size_t>(1, ceil_div(block_bytes, kPageBytes)) * kPageBytes;
}

}  // namespace

std::shared_ptr<Window> Window::make(Transport& transport, std::size_t block_bytes,
                                     const Options& options) {
  const std::size_t bytes = bytes_for(transport.size(), block_bytes);
  std::shared_ptr<Mapping> memory = share_memory(transport, bytes, options);
  if (!memory) return nullptr;
  return over(std::move(memory), transport.rank(), block_bytes);
}

std::shared_ptr<Window> Window::over(std::shared_ptr<Mapping> memory, int rank,
                                     std::size_t block_bytes) {
  std::shared_ptr<Window> window(new Window(std::move(memory), rank, block_bytes));
  const std::lock_guard lock(registry().mutex);
  registry().windows.emplace(window->mine().data(), window);
  return window;
}

std::size_t Window::bytes_for(int size, std::size_t block_bytes) {
  return static_cast<std::size_t>(size) * stride_of(block_bytes);
}

Window::Window(std::shared_ptr<Mapping> memory, int rank, std::size_t block_bytes)
    : memory_(std::move(memory)),
      rank_(rank),
      block_bytes_(block_bytes),
      stride_(stride_of(block_bytes)) {}

Window::~Window() {
  const std::lock_guard lock(registry().mutex);
  registry().windows.erase(mine().data());
}

Place place_of(std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  const std::lock_guard lock(registry().mutex);
  const auto after = registry().windows.upper_bound(bytes.data());
  if (after == registry().windows.begin()) return {};
  std::shared_ptr<Window> window = std::prev(after)->second.lock();
  if (!window) return {};
  const std::span<std::byte> own = window->mine();
  if (bytes.data() + bytes.size() > own.data() + own.size()) return {};
  const auto offset = static_cast<std::uint64_t>(bytes.data() - window->memory().data());
  return {std::move(window), offset};
}

}  // namespace mls
