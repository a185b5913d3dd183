// softmax_log_test.cpp: the cases of softmax_log.
#include "kernels/softmax_log/softmax_log.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(softmax_log) {
  const auto every = [&](const SoftmaxLog& args) {
    lab.every<SoftmaxLog::Overrides>(
        softmax_log_kernel, [&](auto over) { return softmax_log(lab.caps(), args, over); });
    lab.check(softmax_log(lab.caps(), args));
  };
  constexpr float lowest = -3.4028235e38f, masked = -3.0e38f;

  for (auto [rows, cols] : {std::pair{1u, 1u},
                            {0u, 5u},
                            {3u, 0u},
                            {3u, 2u},
                            {2u, 63u},
                            {3u, 64u},
                            {2u, 65u},
                            {3u, 255u},
                            {1u, 256u},
                            {2u, 257u},
                            {3u, 1153u},
                            {2u, 1025u},
                            {2u, 4096u},
                            {1u, 4097u},
                            {1u, 9001u},
                            {1u, 32'003u}})
    for (bool inplace : {false, true}) {
      const gpu::View x = lab.random({rows, cols}, -8, 8);
      every({.x = inplace ? gpu::View{} : x, .y = inplace ? x : lab.output({rows, cols})});
    }
  for (float temperature : {1e-30f, 0.05f, 0.7f, 3.0f, 1e30f})
    every({.x = lab.random({3, 300}, -20, 20),
           .y = lab.output({3, 300}),
           .temperature = temperature});

  lab.check(softmax_log(lab.caps(),
                        {.x = lab.random({2, 262'144}, -20, 20), .y = lab.output({2, 262'144})}));

  // Per row of 100 (or of 700: several elements a lane): all masked in three ways; all but one
  // masked; masked but for the end; all equal; two that tie; an outlier either way; all huge;
  // falling and rising; the whole range of f32.
  for (uint32_t cols : {100u, 700u}) {
    const auto value = [=](size_t i) -> float {
      const size_t row = i / cols, col = i % cols;
      switch (row) {
        case 0:
          return lowest;
        case 1:
          return masked;
        case 2:
          return col % 2 ? lowest : masked;
        case 3:
          return col == 41 ? -2.9e38f : lowest;
        case 4:
          return col + 3 < cols ? lowest : float(col % 5);
        case 5:
          return 1e5f;
        case 6:
          return col == 0 || col == 99 ? 7 : -7;
        case 7:
          return col == 77 ? 1e5f : 1e-3f;
        case 8:
          return col == 77 ? -1e5f : 1e-3f;
        case 9:
          return 3.4e38f;
        case 10:
          return -0.1f * float(col);
        case 11:
          return 0.1f * float(col);
        default:
          return col % 2 ? lowest : col == 50 ? -lowest : 0;
      }
    };
    for (float temperature : {1.0f, 0.01f, 1e-30f, 1e30f})
      every({.x = lab.values({13, cols}, value),
             .y = lab.output({13, cols}),
             .temperature = temperature});
  }

  lab.check(softmax_log(lab.caps(), {.x = lab.random({65'537, 3}), .y = lab.output({65'537, 3})}));

  const gpu::View x = lab.random({2, 300}), y = lab.output({2, 300});
  lab.refuses("y is absent", [&] { softmax_log(lab.caps(), {.x = x, .y = {}}); });
  lab.refuses("x is [2, 300] f32, y is [300] f32",
              [&] { softmax_log(lab.caps(), {.x = x, .y = lab.output({300})}); });
  for (float temperature : {0.0f, -1.0f, 1e-31f, INFINITY, NAN})
    lab.refuses("temperature is",
                [&] { softmax_log(lab.caps(), {.x = x, .y = y, .temperature = temperature}); });
}

}  // namespace ms
