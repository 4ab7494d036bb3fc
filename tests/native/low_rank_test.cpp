// PowerSGD's pieces against loops in float64: any shape, dependent columns, what is not finite.
#include "codec/low_rank.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/isa.hpp"
#include "codec/random.hpp"
#include "harness.hpp"

namespace {

using namespace mls;
using Floats = std::vector<float>;

constexpr Matrix kShapes[] = {{0, 2, 2},   {0, 3, 17}, {0, 17, 3},  {0, 5, 1025},
                              {0, 64, 33}, {0, 7, 40}, {0, 2, 3000}};
constexpr std::size_t kRanks[] = {1, 2, 3, 4, 7, 32};

Floats numbers(std::size_t count, std::uint64_t key) {
  Floats x(count);
  draw_q({key, 0}, x);
  return x;
}

struct Factors {
  Floats p;
  Floats q;
};

// One iteration from a random start.
Factors factors_of(Matrices matrices, std::size_t rank, const Floats& m) {
  Factors made{Floats(p_count(matrices, rank)), numbers(q_count(matrices, rank), 2)};
  multiply_q(matrices, rank, m.data(), made.q.data(), made.p.data());
  orthonormalise(matrices, rank, made.p.data());
  multiply_p(matrices, rank, m.data(), made.p.data(), made.q.data());
  return made;
}

Floats expanded(Matrices matrices, std::size_t rank, const Factors& factors, std::size_t count) {
  Floats m(count, 99.0f);
  expand(matrices, rank, factors.p.data(), factors.q.data(), m.data());
  return m;
}

double squared(const Floats& x) {
  double sum = 0;
  for (const float one : x) sum += static_cast<double>(one) * static_cast<double>(one);
  return sum;
}

Floats difference(const Floats& a, const Floats& b) {
  Floats result = a;
  for (std::size_t i = 0; i < a.size(); ++i) result[i] -= b[i];
  return result;
}

// A matrix of the given rank.
Floats of_rank(const Matrix& shape, std::size_t rank) {
  const Factors made{numbers(rank * shape.rows, 3), numbers(rank * shape.cols, 4)};
  Floats m(shape.rows * shape.cols);
  for (std::size_t i = 0; i < m.size(); ++i) {
    for (std::size_t c = 0; c < rank; ++c) {
      m[i] += made.p[c * shape.rows + i / shape.cols] * made.q[c * shape.cols + i % shape.cols];
    }
  }
  return m;
}

void on_every_instruction_set(const std::function<void()>& body) {
  const std::string_view before = isa();
  for (const std::string_view level : isa_levels()) {
    CHECK(set_isa(level));
    body();
  }
  CHECK(set_isa(before));
}

TEST(products_are_those_of_loops) {
  on_every_instruction_set([] {
    for (const Matrix& shape : kShapes) {
      for (const std::size_t rank : kRanks) {
        const Matrices one(&shape, 1);
        const std::size_t own = rank_of(shape, rank);
        const Floats m = numbers(shape.rows * shape.cols, 5);
        const Floats q = numbers(own * shape.cols, 6);
        Floats p(own * shape.rows);
        CHECK(p_count(one, rank) == p.size() && q_count(one, rank) == q.size());
        multiply_q(one, rank, m.data(), q.data(), p.data());
        Floats back(q.size(), 99.0f);
        multiply_p(one, rank, m.data(), p.data(), back.data());
        const auto near = [](double sum, double size, float found) {
          return std::abs(sum - static_cast<double>(found)) <= 1e-6 * size;
        };
        for (std::size_t c = 0; c < own; ++c) {
          for (std::size_t i = 0; i < shape.rows; ++i) {
            double sum = 0, size = 0;
            for (std::size_t j = 0; j < shape.cols; ++j) {
              const double term = static_cast<double>(m[i * shape.cols + j]) *
                                  static_cast<double>(q[c * shape.cols + j]);
              sum += term;
              size += std::abs(term);
            }
            CHECK(near(sum, size, p[c * shape.rows + i]));
          }
          for (std::size_t j = 0; j < shape.cols; ++j) {
            double sum = 0, size = 0;
            for (std::size_t i = 0; i < shape.rows; ++i) {
              const double term = static_cast<double>(m[i * shape.cols + j]) *
                                  static_cast<double>(p[c * shape.rows + i]);
              sum += term;
              size += std::abs(term);
            }
            CHECK(near(sum, size, back[c * shape.cols + j]));
          }
        }
      }
    }
  });
}

TEST(every_instruction_set_makes_the_same_bits) {
  const std::string_view before = isa();
  for (const Matrix& shape : kShapes) {
    for (const std::size_t rank : kRanks) {
      const Matrices one(&shape, 1);
      const Floats m = numbers(shape.rows * shape.cols, 7);
      Factors first;
      Floats residual;
      for (const std::string_view level : isa_levels()) {
        CHECK(set_isa(level));
        const Factors now = factors_of(one, rank, m);
        Floats left = m;
        add_expanded(one, rank, now.p.data(), now.q.data(), -1, left.data());
        CHECK(left == difference(m, expanded(one, rank, now, m.size())));
        if (level == "baseline") {
          first = now;
          residual = left;
        }
        CHECK(now.p == first.p && now.q == first.q && left == residual);
      }
    }
  }
  CHECK(set_isa(before));
}

TEST(a_matrix_of_the_rank_is_exact_and_dependent_columns_vanish) {
  on_every_instruction_set([] {
    for (const Matrix& shape : kShapes) {
      const Matrices one(&shape, 1);
      for (const std::size_t rank : {1, 2}) {
        const Floats m = of_rank(shape, rank);
        for (const std::size_t more : {0, 1, 5}) {
          const Factors factors = factors_of(one, rank + more, m);
          const Floats left = difference(m, expanded(one, rank + more, factors, m.size()));
          CHECK(squared(left) <= 1e-10 * squared(m));
        }
      }
    }
  });
}

TEST(columns_become_orthonormal_or_zero) {
  for (const std::size_t rows : {2, 3, 8, 33, 1000}) {
    const Matrix shape{0, rows, 64};
    for (const std::size_t rank : kRanks) {
      const std::size_t own = rank_of(shape, rank);
      Floats p = numbers(own * rows, 8);
      for (std::size_t i = 0; i < rows; ++i) {
        if (own > 1) p[rows + i] = p[i] * 3 + 1e-4f * p[rows + i];  // nearly dependent
        if (own > 2) p[2 * rows + i] = p[i] + p[rows + i];          // dependent
        if (own > 3) p[3 * rows + i] = 0;
        if (own > 4) p[4 * rows + i] *= 1e-30f;
        if (own > 5) p[5 * rows + i] *= 1e30f;
      }
      orthonormalise({&shape, 1}, rank, p.data());
      for (std::size_t a = 0; a < own; ++a) {
        for (std::size_t b = 0; b <= a; ++b) {
          double dot = 0;
          for (std::size_t i = 0; i < rows; ++i) {
            dot += static_cast<double>(p[a * rows + i]) * static_cast<double>(p[b * rows + i]);
          }
          CHECK(std::abs(dot) < 1e-5 || (a == b && std::abs(dot - 1) < 1e-5));
          if (a == b && (a == 2 || a == 3)) CHECK(dot == 0);
        }
      }
    }
  }
}

TEST(several_matrices_lie_anywhere_and_vectors_are_left_alone) {
  const std::vector<Matrix> matrices{{10, 3, 4}, {0, 1, 10}, {22, 8, 1}, {30, 5, 20}};
  const Floats m = numbers(130, 9);
  for (const std::size_t rank : {1, 2, 4}) {
    const Factors all = factors_of(matrices, rank, m);
    const Floats out = expanded(matrices, rank, all, m.size());
    for (std::size_t i = 0; i < m.size(); ++i) {
      CHECK((out[i] == 99.0f) == (i < 10 || (i >= 22 && i < 30)));
    }
    const Matrix alone = matrices[0];
    const Factors first = factors_of({&alone, 1}, rank, m);
    CHECK(std::equal(first.p.begin(), first.p.end(), all.p.begin()));
    CHECK(std::equal(first.q.begin(), first.q.end(), all.q.begin()));
  }
}

TEST(zeros_stay_zeros_and_what_is_not_finite_spreads) {
  for (const Matrix& shape : kShapes) {
    const Matrices one(&shape, 1);
    const Floats zeros(shape.rows * shape.cols);
    CHECK(expanded(one, 2, factors_of(one, 2, zeros), zeros.size()) == zeros);
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      Floats m = numbers(zeros.size(), 10);
      m[m.size() / 2] = bad;
      const Floats out = expanded(one, 2, factors_of(one, 2, m), m.size());
      CHECK(std::ranges::all_of(out, [](float x) { return std::isnan(x); }));
    }
  }
}

TEST(a_hostile_payload_of_power_sgd_is_refused_or_decoded_within_its_array) {
  const Codec& codec = codec_of(CodecId::power_sgd);
  const Spec spec{.codec = CodecId::power_sgd, .amount = 2};
  for (const std::size_t count : {0, 1, 2, 3, 90, 100, 101}) {
    const Floats x = numbers(count, 11);
    std::vector<std::byte> good(codec.bound(spec, count));
    CHECK(codec.encode(spec, x, {7, 0}, good.data()) == good.size());
    CHECK(codec.check({good, count}));
    for (std::size_t bit = 0; bit < 8 * 12; ++bit) {
      std::vector<std::byte> flipped = good;
      flipped[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
      CHECK(!codec.check({flipped, count}));
    }
    for (std::size_t length = 0; length < good.size(); ++length) {
      CHECK(!codec.check({std::span(good).first(length), count}));
    }
    for (const std::size_t other : {std::size_t{0}, std::size_t{91}, ~std::size_t{0}}) {
      const bool fits = other == count || (other == 91 && count > 90 && count <= 100);
      CHECK(codec.check({good, other}) == fits);
    }
  }
}

}  // namespace
