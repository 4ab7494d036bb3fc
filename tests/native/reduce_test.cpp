// The reduction kernels of every instruction set against plain arithmetic.
#include "base/reduce.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "base/isa.hpp"
#include "harness.hpp"

using namespace mls;

namespace {

constexpr std::size_t kSizes[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 127, 128, 129, 300};

template <class Body>
void at_every_level(Body body) {
  for (const std::string_view level : isa_levels()) {
    CHECK(set_isa(level));
    CHECK(isa() == level);
    body();
  }
}

// Bytes that start one behind an aligned address.
struct Unaligned {
  explicit Unaligned(std::size_t bytes) : storage(bytes + 1) {}
  std::byte* data() { return storage.data() + 1; }
  std::vector<std::byte> storage;
};

template <class T>
T element(const std::byte* bytes, std::size_t i) {
  T value;
  std::memcpy(&value, bytes + i * sizeof(T), sizeof(T));
  return value;
}

template <class T>
T wrapped_sum(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using Wide = unsigned long long;
    return static_cast<T>(static_cast<Wide>(a) + static_cast<Wide>(b));
  } else {
    return a + b;
  }
}

template <class T>
T wrapped_product(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using Wide = unsigned long long;
    return static_cast<T>(static_cast<Wide>(a) * static_cast<Wide>(b));
  } else {
    return a * b;
  }
}

template <class T>
void compare(DType dtype) {
  std::mt19937_64 random(7);
  for (const std::size_t size : kSizes) {
    Unaligned a(size * sizeof(T));
    Unaligned b(size * sizeof(T));
    for (std::size_t i = 0; i < size; ++i) {
      const T x = static_cast<T>(random());
      const T y = static_cast<T>(random());
      std::memcpy(a.data() + i * sizeof(T), &x, sizeof(T));
      std::memcpy(b.data() + i * sizeof(T), &y, sizeof(T));
    }
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max, ReduceOp::product}) {
      Unaligned result = a;
      reduce(op, dtype, result.data(), b.data(), size);
      for (std::size_t i = 0; i < size; ++i) {
        const T x = element<T>(a.data(), i);
        const T y = element<T>(b.data(), i);
        const T wanted = op == ReduceOp::sum       ? wrapped_sum(x, y)
                         : op == ReduceOp::product ? wrapped_product(x, y)
                         : op == ReduceOp::min     ? std::min(x, y)
                                                   : std::max(x, y);
        CHECK(element<T>(result.data(), i) == wanted);
      }
    }
    if (!is_float(dtype)) continue;
    Unaligned result = a;
    divide(dtype, result.data(), size, 3);
    for (std::size_t i = 0; i < size; ++i) {
      CHECK(element<T>(result.data(), i) == static_cast<T>(element<T>(a.data(), i) / T{3}));
    }
  }
}

// One value of a 16-bit float, by way of dividing by 1 and by sums with 0.
std::uint16_t sum16(DType dtype, std::uint16_t a, std::uint16_t b) {
  reduce(ReduceOp::sum, dtype, reinterpret_cast<std::byte*>(&a),
         reinterpret_cast<const std::byte*>(&b), 1);
  return a;
}

}  // namespace

TEST(reductions_match_plain_arithmetic) {
  at_every_level([] {
    compare<float>(DType::f32);
    compare<double>(DType::f64);
    compare<std::int8_t>(DType::i8);
    compare<std::uint8_t>(DType::u8);
    compare<std::int16_t>(DType::i16);
    compare<std::uint16_t>(DType::u16);
    compare<std::int32_t>(DType::i32);
    compare<std::uint32_t>(DType::u32);
    compare<std::int64_t>(DType::i64);
    compare<std::uint64_t>(DType::u64);
  });
}

TEST(every_16_bit_float_survives_widening_and_narrowing) {
  at_every_level([] {
    for (const DType dtype : {DType::f16, DType::bf16}) {
      const unsigned infinity = dtype == DType::f16 ? 0x7c00u : 0x7f80u;
      std::vector<std::uint16_t> all(65536);
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
      divide(dtype, reinterpret_cast<std::byte*>(all.data()), all.size(), 1);
      for (unsigned i = 0; i < 65536; ++i) {
        const bool nan = (i & 0x7fffu) > infinity;
        CHECK(nan ? (all[i] & 0x7fffu) > infinity : all[i] == i);
      }
    }
  });
}

TEST(sixteen_bit_sums_round_to_nearest_even_and_overflow_to_infinity) {
  at_every_level([] {
    CHECK(sum16(DType::bf16, 0x3f80, 0x3b80) == 0x3f80);  // 1 + 2^-8: half way, to even
    CHECK(sum16(DType::bf16, 0x3f81, 0x3b80) == 0x3f82);  // half way, up to even
    CHECK(sum16(DType::bf16, 0x7f7f, 0x7f7f) == 0x7f80);
    CHECK(sum16(DType::f16, 0x3c00, 0x1000) == 0x3c00);  // 1 + 2^-11
    CHECK(sum16(DType::f16, 0x3c01, 0x1000) == 0x3c02);
    CHECK(sum16(DType::f16, 0x7bff, 0x7bff) == 0x7c00);
    CHECK(sum16(DType::f16, 0x0001, 0x0001) == 0x0002);  // subnormal
  });
}

TEST(nan_is_kept_by_min_and_max_on_either_side) {
  at_every_level([] {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (const ReduceOp op : {ReduceOp::min, ReduceOp::max}) {
      std::vector<float> a(40, 1.0f);
      std::vector<float> b(40, 2.0f);
      a[3] = nan;
      b[37] = nan;
      reduce(op, DType::f32, reinterpret_cast<std::byte*>(a.data()),
             reinterpret_cast<const std::byte*>(b.data()), a.size());
      for (std::size_t i = 0; i < a.size(); ++i) {
        CHECK(i == 3 || i == 37 ? std::isnan(a[i]) : a[i] == (op == ReduceOp::min ? 1.0f : 2.0f));
      }
    }
  });
}

TEST(blocks_are_reduced_in_order_and_rounded_once) {
  at_every_level([] {
    for (std::size_t blocks = 1; blocks <= 9; ++blocks) {
      for (const std::size_t size : {1, 63, 64, 65, 300}) {
        std::vector<std::vector<float>> data(blocks, std::vector<float>(size));
        std::vector<const std::byte*> from;
        for (std::size_t b = 0; b < blocks; ++b) {
          for (std::size_t i = 0; i < size; ++i) {
            data[b][i] = 1.0F / static_cast<float>(1 + (i * 31 + b * 17) % 101);
          }
          from.push_back(reinterpret_cast<const std::byte*>(data[b].data()));
        }
        std::vector<float> wanted = data[0];
        for (std::size_t b = 1; b < blocks; ++b) {
          for (std::size_t i = 0; i < size; ++i) wanted[i] += data[b][i];
        }
        for (float& x : wanted) x /= 3.0F;
        std::vector<float> other(size);
        std::byte* const into[] = {reinterpret_cast<std::byte*>(data[0].data()),
                                   reinterpret_cast<std::byte*>(other.data())};
        reduce_blocks({.divisor = 3}, from, into, size);
        CHECK(data[0] == wanted && other == wanted);
      }
    }
    // 1 + 2^-8 + 2^-8 in bfloat16: each addition by itself would round to 1
    const std::uint16_t values[] = {0x3f80, 0x3b80, 0x3b80};
    std::vector<const std::byte*> from;
    for (const std::uint16_t& x : values) from.push_back(reinterpret_cast<const std::byte*>(&x));
    std::uint16_t sum = 0;
    std::byte* const into = reinterpret_cast<std::byte*>(&sum);
    reduce_blocks({.dtype = DType::bf16}, from, {&into, 1}, 1);
    CHECK(sum == 0x3f81);
  });
}

TEST(an_unknown_instruction_set_is_refused) {
  const std::string_view before = isa();
  CHECK(!set_isa("avx1024"));
  CHECK(isa() == before);
}
