// slot.wgsl: the state of one sequence (kernels/slot.hpp), and which row of a step belongs to which.
struct Slot {
  token: u32,
  position: u32,
  limit: u32,
  stopped: u32,  // 0 running, 1 by a stop token, 2 by the limit, 3 idle, 4 stalled: its step went wrong
  seed: u32,
  temperature: f32,
  top_k: u32,
  top_p: f32,
  min_p: f32,
  repeat_penalty: f32,
  presence_penalty: f32,
  frequency_penalty: f32,
  penalty_last_n: u32,
  stop_count: u32,
  stop_tokens: array<u32, 16>,
  pad: array<u32, 2>,
}
const STOPPED_STALLED = 4u;
