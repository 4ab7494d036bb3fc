// The same for libFuzzer, which looks at what the code does with a frame (make fuzz, with clang).
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "fuzz.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned) {
  fuzz::Bytes frame(most);
  const std::size_t mutated = LLVMFuzzerMutate(data, size, most);
  std::memcpy(frame.data(), data, mutated);
  frame.resize(mutated);
  fuzz::reseal(frame);
  std::memcpy(data, frame.data(), mutated);
  return mutated;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    fuzz::receive(std::as_bytes(std::span(data, size)));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::abort();
  }
  return 0;
}
