// nmse.hpp: how far numbers are from those that they should be.
#pragma once
#include <cstddef>
#include <span>

namespace ms {

// The squares of the differences by the squares of what is wanted. As many of both.
inline double nmse(std::span<const float> got, std::span<const float> want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = double(got[i]) - want[i];
    error += difference * difference;
    norm += double(want[i]) * want[i];
  }
  return error / norm;
}

}  // namespace ms
