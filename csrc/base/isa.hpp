// Which instruction set the kernels of base/ and codec/ use; chosen once, at run time.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace mls {

// Slowest first; tables of kernels have one entry for each.
enum class Isa : std::size_t {
  baseline,
  avx2,
  avx512
};  // avx2: with FMA, F16C. avx512: F BW VL DQ

// What this machine can run, slowest first; the last one is used unless a test chooses another.
std::vector<std::string_view> isa_levels();
std::string_view isa();
bool set_isa(std::string_view level);

// The entry of kernel tables that is in use.
std::size_t isa_index();

}  // namespace mls
