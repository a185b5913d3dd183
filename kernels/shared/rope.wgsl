// rope.wgsl: rotary position embedding (RoPE, Su et al., 2021) from tables.
//
// Needs: fn rope_at(i: u32) -> f32, of [2, max_seq, rotary_dim / 2], cosines, then sines; params with max_seq, rotary_dim,
// interleaved.

// Element i of a head becomes cos times it plus sin times element `other`.
struct Turn { other: u32, cos: f32, sin: f32 }

// At a position; of an element i < rotary_dim. Later positions than the tables' use their last line.
fn turn_of(i: u32, position: u32) -> Turn {
  let half = params.rotary_dim / 2;
  var pair = i / 2;
  var other = i ^ 1;
  if (params.interleaved == 0) {
    pair = select(i - half, i, i < half);
    other = select(i - half, i + half, i < half);
  }
  let angle = min(position, params.max_seq - 1) * half + pair;
  let sin = rope_at(params.max_seq * half + angle);
  return Turn(other, rope_at(angle), select(sin, -sin, i < other));
}
