// check_stop.cpp: the wrapper of check_stop.wgsl.
#include "kernels/check_stop/check_stop.hpp"

#include "kernels/slot.hpp"

namespace ms {

using gpu::in, gpu::out;

void check_stop_ref(const gpu::HostDispatch& d);
const gpu::Kernel check_stop_kernel =
    gpu::kernel<CheckStop>("check_stop", {in, out, out, out}, check_stop_ref);

gpu::Work check_stop(const gpu::Caps&, const CheckStop& a, CheckStop::Overrides over) {
  gpu::check(check_stop_kernel, over);
  const uint64_t rows = a.sampled.size();
  const uint64_t capacity = a.history ? a.history.cols() : 0;
  require(bool(a.slots) != bool(a.should_stop),
          "check_stop: either slots or should_stop is given; slots is {}, should_stop {}", a.slots,
          a.should_stop);
  require(!a.should_stop || a.should_stop.size() == rows,
          "check_stop: should_stop is {}, sampled is {}", a.should_stop, a.sampled);
  require(!a.slots || a.slots.bytes() == rows * sizeof(Slot),
          "check_stop: slots is {}, a Slot has {} words, sampled is {}", a.slots, sizeof(Slot) / 4,
          a.sampled);
  require(!a.history || (a.slots && a.history.size() == rows * capacity),
          "check_stop: history is {}, slots is {}", a.history, a.slots);
  require(rows <= UINT32_MAX && rows * capacity <= UINT32_MAX,
          "check_stop: history is {}, at most 2^32 - 1 tokens", a.history);
  return gpu::Dispatch{
      .kernel = &check_stop_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.sampled, a.should_stop, a.slots, a.history},
      .params = gpu::bytes(CheckStop::Params{a.eos_token_id, a.max_tokens, a.current_pos,
                                             bool(a.slots), uint32_t(rows), uint32_t(capacity)}),
      .grid = gpu::fold((rows + over.workgroup_size - 1) / over.workgroup_size)};
}

}  // namespace ms
