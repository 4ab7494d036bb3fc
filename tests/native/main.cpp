#include "harness.hpp"

int main() {
  int failed = 0;
  for (const test::Case& one : test::cases()) {
    try {
      one.body();
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED %s: %s\n", one.name, error.what());
    }
  }
  std::printf("%zu tests, %d failed\n", test::cases().size(), failed);
  return failed == 0 ? 0 : 1;
}
