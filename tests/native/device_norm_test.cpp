// Norms of the device, run on the host: the bits of base/squares.hpp.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/squares.hpp"
#include "codec/random.hpp"
#include "cuda/host.hpp"
#include "cuda/norm.hpp"
#include "harness.hpp"

namespace {

using namespace mls;

// Up to a tile, up to 256 of them, and more.
constexpr std::size_t kSizes[] = {0, 1, 255, 256, 257, 2047, 2048, 2049, 10007, 600001};

std::vector<float> numbers(std::size_t count) {
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count; ++i) {
    x[i] = std::ldexp(static_cast<float>(random_bits(1, i)) - 0x1p31f,
                      -31 - static_cast<int>(random_bits(2, i) % 20));
  }
  return x;
}

TEST(squares_are_those_of_the_array) {
  for (const std::size_t count : kSizes) {
    const std::vector<float> x = numbers(count);
    long double sum = 0;
    for (const float value : x) sum += static_cast<long double>(value) * value;
    CHECK(std::abs(squares(x) - static_cast<double>(sum)) <= 1e-13 * static_cast<double>(sum));
  }
  CHECK(squares(std::vector<float>(3000, 0.5f)) == 750);
}

TEST(device_squares_have_the_bits_of_the_host) {
  for (const std::size_t count : kSizes) {
    std::vector<float> x = numbers(count);
    device::HostMachine machine;
    double got = -1;
    device::squares(machine, x.data(), count, &got);
    CHECK(std::bit_cast<std::uint64_t>(got) == std::bit_cast<std::uint64_t>(squares(x)));
    if (count == 0) continue;
    x.back() = std::numeric_limits<float>::quiet_NaN();
    device::squares(machine, x.data(), count, &got);
    CHECK(std::isnan(got) && std::isnan(squares(x)));
  }
}

TEST(device_clipping_multiplies_by_the_factor_of_the_host) {
  for (const std::size_t count : kSizes) {
    const std::vector<float> x = numbers(count);
    const double norm = std::sqrt(squares(x));
    for (const double most : {0.3 * norm, norm, 2 * norm, 1e-30}) {
      const float factor = factor_within(squares(x), most);
      CHECK((factor < 1) == (norm > most));
      std::vector<float> wanted = x;
      for (float& value : wanted) value *= factor;
      std::vector<float> got = x;
      device::HostMachine machine;
      device::clip(machine, got.data(), count, most);
      CHECK(got == wanted);
      CHECK(std::sqrt(squares(got)) <= std::max(1.000001 * most, 1e-38));
    }
  }
}

}  // namespace
