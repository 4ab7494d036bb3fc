// An array of numbers that are zero; where it is large, it costs no memory before it is touched,
// and has large pages where the system gives them: a random access to a small one waits for its
// address too.
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
  std::size_t bytes_;     // whole cache lines, or whole pages
  void* data_ = nullptr;  // aligned to a cache line
};

}  // namespace mls
