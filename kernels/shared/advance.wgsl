// advance.wgsl: the end of a sequence's step: its slot takes the sampled token and stops if it must (check_stop.hpp).
//
// Needs: #import slot; the bindings slots, [rows] Slot, and history, [rows, params.capacity] u32; capacity 0: it is not bound.
fn advance(row: u32, token: u32) {
  // All loads at once: one after the other each would be waited for.
  let position = slots[row].position + 1;
  let limit = slots[row].limit;
  let stop_count = slots[row].stop_count;
  var is_stop = false;
  for (var i = 0u; i < 16; i++) { is_stop |= (slots[row].stop_tokens[i] == token) & (i < stop_count); }
  slots[row].position = position;
  slots[row].token = token;
  if (position < params.capacity) { history[row * params.capacity + position] = token; }
  if (is_stop) {
    slots[row].stopped = 1;
  } else if (position >= limit) {
    slots[row].stopped = 2;
  }
}
