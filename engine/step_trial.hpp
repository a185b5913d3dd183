// step_trial.hpp: whether a model's persistent steps are right on its device, and pay.
//
// Their workgroups wait for each other, and WGSL does not promise that they run at the same time: a
// device that always lets them is known by trying. Before any text depends on it, a model takes
// steps by a chain, and the same steps, of the same tokens, persistently.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace ms {

class Engine;

struct StepTrial {
  uint32_t groups = 0;  // workgroups of persistent steps to take from now on; 0: take a chain
  std::string why;      // it is a chain
  double chain_seconds = 0, persistent_seconds = 0;  // of a step, where both were right
};

// Tries fewer and fewer workgroups until `steps` steps end without a wait in vain. Leaves the
// engine with steps as they are to be. Where a chain's step takes longer than `slowest`, a device's
// memory is what it waits for, and there is next to nothing to gain: a trial would only keep its
// user waiting. progress(steps taken, of how many).
StepTrial try_persistent_steps(Engine& engine, uint32_t steps, double slowest,
                               const std::function<void(uint64_t, uint64_t)>& progress = {});

}  // namespace ms
