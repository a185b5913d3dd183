// fuzzer.cpp: one target as libFuzzer calls it; the compile definition MS_FUZZ_TARGET names it.
#include <cstdint>

#include "tests/fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ms::FuzzTarget& target = ms::fuzz_target(MS_FUZZ_TARGET);
  ms::fuzz(target, {reinterpret_cast<const char*>(data), size});
  return 0;
}
