// slot_test.hpp: slots at a step's end, for the tests of the kernels that end one.
#pragma once
#include <vector>

#include "kernels/slot.hpp"

namespace ms {

// Each another case: stopped before, at a stop token that counts or not, below, at and beyond the
// limit, a position outside a history of 8, more stop tokens claimed than a slot holds.
inline std::vector<Slot> ending_slots(uint32_t rows) {
  std::vector<Slot> slots(rows);
  for (uint32_t i = 0; i < rows; ++i) {
    slots[i] = {.token = 99,
                .position = i % 11,
                .limit = i % 7 + 1,
                .stopped = Stopped(i % 5 == 4 ? i % 4 : 0)};
    slots[i].stop_count = i % 6 == 5 ? 1000 : i % 3;
    for (uint32_t j = 0; j < 16; ++j) slots[i].stop_tokens[j] = 10 + j;
  }
  return slots;
}
// The token that such a slot is to take, below 26.
inline uint32_t ending_token(size_t row) { return uint32_t(9 + row % 5 + (row % 6 == 5 ? 12 : 0)); }

}  // namespace ms
