#include "codec/low_rank.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "codec/dispatch.hpp"
#include "codec/random.hpp"

namespace mls {
namespace {

// What is left of a column that depends on others is rounding.
constexpr double kDependent = 0x1p-20;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const LowRankKernels& kernels() { return MLS_FASTEST(low_rank_kernels); }

void orthonormalise_columns(float* p, std::size_t rows, std::size_t rank) {
  for (std::size_t c = 0; c < rank; ++c) {
    float* const column = p + c * rows;
    const double before = std::sqrt(kernels().dot(column, column, rows));
    for (int round = 0; round < 2; ++round) {
      for (const float* other = p; other < column; other += rows) {
        kernels().subtract(column, kernels().dot(column, other, rows), other, rows);
      }
    }
    const double norm = std::sqrt(kernels().dot(column, column, rows));
    if (norm <= kDependent * before || !std::isfinite(norm)) {
      std::fill_n(column, rows, std::isfinite(norm) ? 0.0f : kNan);
      continue;
    }
    for (std::size_t i = 0; i < rows; ++i) column[i] = static_cast<float>(column[i] / norm);
  }
}

// Which of two NaN a sum keeps is up to the compiler: keeps one for all.
void make_nan_alike(float* q, std::size_t count) {
  std::replace_if(q, q + count, [](float x) { return std::isnan(x); }, kNan);
}

// body(matrix, rank, p, q) with the numbers of p and q that come before those of the matrix.
template <class Body>
void over(Matrices matrices, std::size_t rank, const Body& body) {
  std::size_t p = 0;
  std::size_t q = 0;
  for (const Matrix& matrix : matrices) {
    const std::size_t own = rank_of(matrix, rank);
    if (own > 0) body(matrix, own, p, q);
    p += own * matrix.rows;
    q += own * matrix.cols;
  }
}

Strip all_rows(const Matrix& matrix, std::size_t rank) {
  return {matrix.rows, matrix.cols, rank, matrix.rows};
}

// power_sgd as a codec of its own ----------------------------------------------------------------

struct Header {
  std::uint32_t rows;
  std::uint32_t cols;
  std::uint32_t rank;
};
static_assert(sizeof(Header) == 12);

std::size_t ceil_root(std::size_t n) {
  auto root = static_cast<std::size_t>(std::sqrt(static_cast<double>(n)));
  while (root * root < n) ++root;
  while (root > 0 && (root - 1) * (root - 1) >= n) --root;
  return root;
}

Header near_square(std::size_t n, std::size_t rank) {
  const std::size_t rows = ceil_root(n);
  const std::size_t cols = rows == 0 ? 0 : (n + rows - 1) / rows;
  return {static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(cols),
          static_cast<std::uint32_t>(std::min({rank, rows, cols}))};
}

std::size_t p_numbers(const Header& shape) { return std::size_t{shape.rank} * shape.rows; }
std::size_t q_numbers(const Header& shape) { return std::size_t{shape.rank} * shape.cols; }

std::size_t payload_size(const Header& shape) {
  return sizeof shape + sizeof(float) * (p_numbers(shape) + q_numbers(shape));
}

// Elements in a last row that is not whole.
std::size_t last_length(const Header& shape, std::size_t n) { return n == 0 ? 0 : n % shape.cols; }

// That row, filled up.
std::vector<float> last_row(const Header& shape, std::span<const float> x) {
  std::vector<float> row(shape.cols);
  std::ranges::copy(x.last(last_length(shape, x.size())), row.begin());
  return row;
}

// body(rows, first, m) for the whole rows of an array, and for the last one, which may not be
// whole: `row` stands in for it.
template <class Number, class Body>
void over_rows(const Header& shape, std::size_t n, Number* x, Number* row, const Body& body) {
  if (n == 0) return;
  const std::size_t whole = n / shape.cols;
  body(Strip{whole, shape.cols, shape.rank, shape.rows}, std::size_t{0}, x);
  if (whole < shape.rows) body(Strip{1, shape.cols, shape.rank, shape.rows}, whole, row);
}

std::size_t encode_power(const Spec& spec, std::span<const float> x, Draw draw,
                         std::byte* payload) {
  const Header shape = near_square(x.size(), static_cast<std::size_t>(spec.amount));
  std::vector<float> p(p_numbers(shape));
  std::vector<float> q(q_numbers(shape));
  const std::vector<float> last = last_row(shape, x);
  draw_q(draw, q);
  over_rows(shape, x.size(), x.data(), last.data(),
            [&](const Strip& rows, std::size_t first, const float* m) {
              kernels().multiply_q(rows, m, q.data(), p.data() + first);
            });
  orthonormalise_columns(p.data(), shape.rows, shape.rank);
  std::ranges::fill(q, 0.0f);
  over_rows(shape, x.size(), x.data(), last.data(),
            [&](const Strip& rows, std::size_t first, const float* m) {
              kernels().multiply_p(rows, m, p.data() + first, q.data());
            });
  make_nan_alike(q.data(), q.size());
  std::byte* at = std::ranges::copy(std::as_bytes(std::span(&shape, 1)), payload).out;
  at = std::ranges::copy(std::as_bytes(std::span(p)), at).out;
  at = std::ranges::copy(std::as_bytes(std::span(q)), at).out;
  return static_cast<std::size_t>(at - payload);
}

Header header_of(const Payload& payload) {
  Header header;
  std::memcpy(&header, payload.bytes.data(), sizeof header);
  return header;
}

bool check_power(const Payload& payload) {
  if (payload.values != CodecId::none || payload.bytes.size() < sizeof(Header)) return false;
  if (payload.count >> 62 != 0) return false;
  const Header header = header_of(payload);
  if (header.rank > kMostRank || (header.rank == 0) != (payload.count == 0)) return false;
  const Header shape = near_square(payload.count, header.rank);
  return header.rows == shape.rows && header.cols == shape.cols && header.rank == shape.rank &&
         payload.bytes.size() == payload_size(shape);
}

// body(rows, p, q, m) for the rows of what was decoded or is added to.
template <class Body>
void over_decoded(const Payload& payload, float* into, const Body& body) {
  const Header shape = header_of(payload);
  std::vector<float> factors(p_numbers(shape) + q_numbers(shape));
  std::ranges::copy(payload.bytes.subspan(sizeof shape),
                    std::as_writable_bytes(std::span(factors)).begin());
  const float* const q = factors.data() + p_numbers(shape);
  std::vector<float> last = last_row(shape, {into, payload.count});
  over_rows(shape, payload.count, into, last.data(),
            [&](const Strip& rows, std::size_t first, float* m) {
              body(rows, factors.data() + first, q, m);
            });
  const std::size_t tail = last_length(shape, payload.count);
  std::copy_n(last.begin(), tail, into + payload.count - tail);
}

}  // namespace

std::size_t rank_of(const Matrix& matrix, std::size_t rank) {
  if (matrix.rows <= 1 || matrix.cols <= 1) return 0;
  return std::min({rank, matrix.rows, matrix.cols});
}

std::size_t p_count(Matrices matrices, std::size_t rank) {
  std::size_t count = 0;
  for (const Matrix& matrix : matrices) count += rank_of(matrix, rank) * matrix.rows;
  return count;
}

std::size_t q_count(Matrices matrices, std::size_t rank) {
  std::size_t count = 0;
  for (const Matrix& matrix : matrices) count += rank_of(matrix, rank) * matrix.cols;
  return count;
}

void draw_q(Draw draw, std::span<float> q) {
  for (std::size_t i = 0; i < q.size(); ++i) {
    std::int32_t sum = -2 * 0xffff;  // the mean of four numbers of 16 bits
    for (const std::uint64_t half : {0, 1}) {
      const std::uint32_t bits = random_bits(draw.key, draw.first + 2 * i + half);
      sum += static_cast<std::int32_t>((bits & 0xffffu) + (bits >> 16));
    }
    q[i] = static_cast<float>(sum) * 0x1p-16f;
  }
}

void multiply_q(Matrices matrices, std::size_t rank, const float* m, const float* q, float* p) {
  over(matrices, rank, [&](const Matrix& matrix, std::size_t own, std::size_t p0, std::size_t q0) {
    kernels().multiply_q(all_rows(matrix, own), m + matrix.start, q + q0, p + p0);
  });
}

void orthonormalise(Matrices matrices, std::size_t rank, float* p) {
  over(matrices, rank, [&](const Matrix& matrix, std::size_t own, std::size_t p0, std::size_t) {
    orthonormalise_columns(p + p0, matrix.rows, own);
  });
}

void multiply_p(Matrices matrices, std::size_t rank, const float* m, const float* p, float* q) {
  over(matrices, rank, [&](const Matrix& matrix, std::size_t own, std::size_t p0, std::size_t q0) {
    std::fill_n(q + q0, own * matrix.cols, 0.0f);
    kernels().multiply_p(all_rows(matrix, own), m + matrix.start, p + p0, q + q0);
    make_nan_alike(q + q0, own * matrix.cols);
  });
}

void expand(Matrices matrices, std::size_t rank, const float* p, const float* q, float* m) {
  over(matrices, rank, [&](const Matrix& matrix, std::size_t own, std::size_t p0, std::size_t q0) {
    kernels().expand(all_rows(matrix, own), p + p0, q + q0, m + matrix.start);
  });
}

void add_expanded(Matrices matrices, std::size_t rank, const float* p, const float* q, float factor,
                  float* m) {
  over(matrices, rank, [&](const Matrix& matrix, std::size_t own, std::size_t p0, std::size_t q0) {
    kernels().add_expanded(all_rows(matrix, own), p + p0, q + q0, factor, m + matrix.start);
  });
}

constinit const Codec kPowerSgdRow{
    .id = CodecId::power_sgd,
    .name = "power_sgd",
    .combines = Combines::gather,  // P and Q add up in two rounds only
    .sparse = false,
    .granule = 0,
    .accepts =
        [](const Spec& spec) {
          return spec.amount >= 1 && spec.amount <= kMostRank &&
                 spec.amount == std::floor(spec.amount) && spec.values == CodecId::none &&
                 !spec.stochastic && !spec.sampled && !spec.unbiased;
        },
    .bound =
        [](const Spec& spec, std::size_t count) {
          return payload_size(near_square(count, static_cast<std::size_t>(spec.amount)));
        },
    .fixed_size = true,
    .encode = encode_power,
    .check = check_power,
    .decode =
        [](const Payload& payload, float* into) {
          over_decoded(payload, into,
                       [](const Strip& rows, const float* p, const float* q, float* m) {
                         kernels().expand(rows, p, q, m);
                       });
        },
    .add =
        [](const Payload& payload, float factor, float* into) {
          over_decoded(payload, into,
                       [&](const Strip& rows, const float* p, const float* q, float* m) {
                         kernels().add_expanded(rows, p, q, factor, m);
                       });
        }};

}  // namespace mls
