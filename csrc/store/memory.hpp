// An array of numbers that are zero and cost no memory until they are touched; in large pages where
// the system has them, as random access to small pages waits for their addresses too.
#pragma once

#include <cstddef>

namespace mls {

class Memory {
 public:
  explicit Memory(std::size_t bytes);  // throws Failure where there are not as many
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  template <class Number>
  Number* as() {
    return static_cast<Number*>(data_);
  }
  template <class Number>
  const Number* as() const {
    return static_cast<const Number*>(data_);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;  // aligned to pages
  std::size_t bytes_;
};

}  // namespace mls
