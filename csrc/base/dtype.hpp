// Element types of arrays: names, sizes. No MPI, Python or CUDA.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mls {

enum class DType : std::uint8_t { f16, bf16, f32, f64, i8, u8, i16, u16, i32, u32, i64, u64 };

struct DTypeRow {
  std::string_view name;
  std::size_t size;  // bytes
};

inline constexpr std::array<DTypeRow, 12> kDTypes{{
    {"float16", 2},
    {"bfloat16", 2},
    {"float32", 4},
    {"float64", 8},
    {"int8", 1},
    {"uint8", 1},
    {"int16", 2},
    {"uint16", 2},
    {"int32", 4},
    {"uint32", 4},
    {"int64", 8},
    {"uint64", 8},
}};

inline constexpr std::size_t kFloats = 4;  // come first
constexpr bool is_float(DType dtype) { return static_cast<std::size_t>(dtype) < kFloats; }

constexpr std::size_t size_of(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)].size; }

constexpr std::string_view name_of(DType dtype) {
  return kDTypes[static_cast<std::size_t>(dtype)].name;
}

constexpr std::optional<DType> dtype_named(std::string_view name) {
  for (std::size_t i = 0; i < kDTypes.size(); ++i) {
    if (kDTypes[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

}  // namespace mls
