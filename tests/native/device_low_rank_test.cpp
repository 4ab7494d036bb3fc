// PowerSGD of the device, run on the host: products to rounding, what ranks must have alike
// exactly.
#include <cmath>
#include <vector>

#include "codec/low_rank.hpp"
#include "codec/random.hpp"
#include "cuda/host.hpp"
#include "cuda/low_rank.hpp"
#include "harness.hpp"

namespace {

using namespace mls;

std::vector<float> numbers(std::size_t count, std::uint64_t key) {
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count; ++i) {
    x[i] = (static_cast<float>(random_bits(key, i)) - 0x1p31f) * 0x1p-31f;
  }
  return x;
}

// Sums of `terms` products of numbers up to 1.
bool near(const std::vector<float>& a, const std::vector<float>& b, std::size_t terms) {
  const float most = 1e-6f * static_cast<float>(terms);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= most)) return false;
  }
  return a.size() == b.size();
}

TEST(device_low_rank_products_are_those_of_the_host) {
  const std::size_t shapes[][3] = {
      {2, 2, 1}, {300, 5, 3}, {5, 700, 5}, {130, 257, 9}, {5000, 3, 2}};
  for (const auto& [rows, cols, rank] : shapes) {
    const Matrix matrix{0, rows, cols};
    const std::vector<float> m = numbers(rows * cols, 1);
    const std::vector<float> q = numbers(rank * cols, 2);
    std::vector<float> p(rank * rows);
    std::vector<float> again(rank * cols);
    std::vector<float> wide(rows * cols, 0.5f);
    device::HostMachine machine;
    const device::Factored shape{rows, cols, rank};

    std::vector<float> got(p.size());
    multiply_q({&matrix, 1}, rank, m.data(), q.data(), p.data());
    device::multiply_q(machine, shape, m.data(), q.data(), got.data());
    CHECK(near(got, p, cols));

    multiply_p({&matrix, 1}, rank, m.data(), p.data(), again.data());
    got.assign(again.size(), 0);
    device::multiply_p(machine, shape, m.data(), p.data(), got.data());
    CHECK(near(got, again, rows * cols));

    std::vector<float> found = wide;
    add_expanded({&matrix, 1}, rank, p.data(), q.data(), -1, wide.data());
    device::add_expanded(machine, shape, p.data(), q.data(), -1, found.data());
    CHECK(found == wide);
    expand({&matrix, 1}, rank, p.data(), q.data(), wide.data());
    device::expand(machine, shape, p.data(), q.data(), found.data());
    CHECK(found == wide);
  }
}

}  // namespace
