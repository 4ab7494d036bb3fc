#!/bin/sh
# Decodes damaged frames of every codec for so many seconds (60), under the address and
# undefined-behaviour sanitizers: with libFuzzer where there is clang, else those of tests/native.
#   scripts/fuzz.sh [SECONDS]
set -eu

seconds=${1:-60}
folder=build/fuzz
mkdir -p "$folder/corpus"
codecs="csrc/base/isa.cpp csrc/codec/*.cpp"
flags="-std=c++20 -g -O1 -ffp-contract=off -pthread -Icsrc -Itests/native -fno-sanitize-recover=all"

# shellcheck disable=SC2086
if command -v clang++ >/dev/null; then
  clang++ $flags -fsanitize=fuzzer,address,undefined tests/fuzz/frames.cpp $codecs \
    -o "$folder/frames"
  exec "$folder/frames" -max_total_time="$seconds" -max_len=8192 -seed=1 "$folder/corpus"
else
  g++ $flags -fsanitize=address,undefined tests/native/main.cpp tests/native/fuzz_test.cpp $codecs \
    -o "$folder/frames"
  FUZZ_SECONDS=$seconds exec "$folder/frames"
fi
