#include "base/isa.hpp"

#include <array>
#include <atomic>

namespace mls {
namespace {

constexpr std::array<std::string_view, 3> kNames{"baseline", "avx2", "avx512"};

std::size_t fastest() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  return static_cast<std::size_t>(avx512 ? Isa::avx512 : avx2 ? Isa::avx2 : Isa::baseline);
#else
  return static_cast<std::size_t>(Isa::baseline);
#endif
}

std::atomic<std::size_t>& chosen() {
  static std::atomic<std::size_t> level{fastest()};
  return level;
}

}  // namespace

std::vector<std::string_view> isa_levels() {
  return {kNames.begin(), kNames.begin() + static_cast<std::ptrdiff_t>(fastest()) + 1};
}

std::string_view isa() { return kNames[isa_index()]; }

bool set_isa(std::string_view name) {
  const std::vector<std::string_view> levels = isa_levels();
  for (std::size_t level = 0; level < levels.size(); ++level) {
    if (levels[level] != name) continue;
    chosen().store(level, std::memory_order_relaxed);
    return true;
  }
  return false;
}

std::size_t isa_index() { return chosen().load(std::memory_order_relaxed); }

}  // namespace mls
