// step_trial.cpp: steps by a chain, and the same ones by persistent kernels.
#include "engine/step_trial.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <vector>

#include "base/nmse.hpp"
#include "engine/engine.hpp"
#include "engine/steps_ahead.hpp"

namespace ms {

namespace {

constexpr uint32_t longest_run = 250;    // positions from the first one on
constexpr uint32_t between_checks = 50;  // steps whose logits are not compared
constexpr double largest_nmse = 1e-6;    // of sums in another order

using Clock = std::chrono::steady_clock;

// What steps made of runs of tokens: what each one drew, and now and then its logits.
struct Run {
  std::vector<uint32_t> drawn;
  std::vector<std::vector<float>> logits;
  double seconds = 0;
};

// Takes `steps` steps, each with the token that `fed` has for it, or else the one that the step
// before drew. Nothing when one stalls.
std::optional<Run> take(Engine& engine, uint32_t steps, const std::vector<uint32_t>* fed,
                        const std::function<void(uint32_t)>& progress) {
  gpu::Device& device = engine.device();
  const gpu::Recording& step = engine.step(true);
  const uint32_t vocab = engine.config().vocab;
  const uint32_t run = std::clamp(engine.context() - 1, 1u, longest_run);
  const gpu::View slots = engine.model().slots(), logits = engine.model().logits();
  const gpu::View slot = slots.slice(0, {1, sizeof(Slot) / 4});
  Run result;
  StepsAhead ahead(device);
  bool stalled = false;
  const auto await = [&] {
    Slot state;
    std::memcpy(&state, ahead.next().data(), sizeof(state));
    stalled |= state.stopped == Stopped::stalled;
    result.drawn.push_back(state.token);
  };
  const auto start = Clock::now();
  for (uint32_t i = 0; i < steps && !stalled; ++i) {
    const uint32_t position = i % run;
    if (position == 0 || fed) {
      const uint32_t first = (i * 131 + 7) % vocab;  // of another run, another one
      engine.write_slot({.token = position ? (*fed)[i - 1] : first,
                         .position = position,
                         .limit = engine.context(),
                         .stopped = Stopped::running});
    }
    ahead.submit(step, slot);
    const bool check = i % between_checks == between_checks - 1;
    while (ahead.size() > 0 && (check || ahead.size() >= steps_ahead)) await();
    if (check) {
      const auto bytes = device.read(*logits.buffer, logits.offset, 4ull * vocab);
      result.logits.emplace_back(vocab);
      std::memcpy(result.logits.back().data(), bytes.data(), bytes.size());
      progress(i + 1);
    }
  }
  while (ahead.size() > 0) await();
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (stalled) return {};
  return result;
}

// What is wrong with steps that were fed the same tokens; or empty.
std::string difference(const Run& got, const Run& want) {
  for (size_t i = 0; i < want.logits.size(); ++i)
    if (const double e = nmse(got.logits[i], want.logits[i]); !(e < largest_nmse))
      return fmt::format("their logits differ from the chain's, NMSE {:.1e}, limit {:.0e}", e,
                         largest_nmse);
  size_t others = 0;  // of two tokens that are as likely either may be drawn
  for (size_t i = 0; i < want.drawn.size(); ++i) others += got.drawn[i] != want.drawn[i];
  if (others > want.drawn.size() / 100)
    return fmt::format("{} of {} of them draw another token than the chain", others,
                       want.drawn.size());
  return "";
}

}  // namespace

StepTrial try_persistent_steps(Engine& engine, uint32_t steps, double slowest,
                               const std::function<void(uint64_t, uint64_t)>& progress) {
  const auto at = [&](uint32_t before) {
    return [=](uint32_t done) {
      if (progress) progress(before + done, 2ull * steps);
    };
  };
  const auto chain = [&](std::string why) {
    engine.use_chain();
    StepTrial result;
    result.why = std::move(why);
    return result;
  };
  engine.use_chain();
  const uint32_t few = std::min(steps, 8u);
  take(engine, few, nullptr, at(0));  // compiles, on a device that was idle
  if (const double seconds = take(engine, few, nullptr, at(0)).value().seconds / few;
      seconds > slowest)
    return chain(fmt::format("a chain's step takes {:.0f} ms already", 1e3 * seconds));
  const Run want = take(engine, steps, nullptr, at(0)).value();
  // For large GPUs, a workgroup for each of most multiprocessors; a CPU's threads run one each.
  const gpu::Caps& caps = engine.device().caps();
  const uint32_t most = caps.cpu ? caps.cpu_threads : 128;
  for (uint32_t groups = most; groups > 0 && groups >= most / 8; groups /= 2) {
    if (const std::string why = engine.use_persistent(groups); !why.empty()) return chain(why);
    if (!take(engine, few, &want.drawn, at(steps))) continue;
    const std::optional<Run> got = take(engine, steps, &want.drawn, at(steps));
    if (!got) continue;
    if (const std::string why = difference(*got, want); !why.empty()) return chain(why);
    StepTrial result;
    result.groups = groups;
    result.chain_seconds = want.seconds / steps;
    result.persistent_seconds = got->seconds / steps;
    if (result.persistent_seconds >= result.chain_seconds) {
      engine.use_chain();
      result.groups = 0;
      result.why = fmt::format("they take {:.0f} us, a chain's {:.0f}",
                               1e6 * result.persistent_seconds, 1e6 * result.chain_seconds);
    }
    return result;
  }
  return chain("the device does not run their workgroups at once");
}

}  // namespace ms
