// One exception for what can go wrong between ranks; every layer adds what it was doing.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace mls {

enum class FailureKind { config, timeout, rank_failed };

class Failure : public std::runtime_error {
 public:
  Failure(FailureKind kind, const std::string& message, std::vector<int> ranks = {})
      : std::runtime_error(message), kind_(kind), ranks_(std::move(ranks)) {}

  FailureKind kind() const { return kind_; }
  const std::vector<int>& ranks() const { return ranks_; }

  // The same failure with one more layer of its story in front.
  Failure during(const std::string& what) const {
    return Failure(kind_, what + ": " + this->what(), ranks_);
  }

 private:
  FailureKind kind_;
  std::vector<int> ranks_;  // that are known or suspected to be gone
};

}  // namespace mls
