// fused_attention_shares.wgsl: which keys a workgroup looks at, of which heads.
// Needs: override or const SPLIT, HEAD_DIM; params with heads, kv_heads, ratio, teams, team_heads, attn_softcap, splits.

const HEAD_FOURS = HEAD_DIM / 4;
const SPLIT_KEYS = 64u;  // that are worth a workgroup: split_keys of fused_attention.hpp
const LOWEST = -1e38;    // below any score, and finite when one is subtracted from it

// Four units of what the cache holds. Members, not arrays: what a loop counts through goes to memory unless the compiler unrolls it, and
// NVIDIA's does not.
struct Units { a: vec4u, b: vec4u, c: vec4u, d: vec4u }

struct Fours { a: vec4f, b: vec4f }

// The positions that a row sees, first to first + count - 1, the last of which may be its newest one: not yet in the cache, but with a
// row to go to.
struct Keys { first: u32, count: u32, position: u32, newest: bool, newest_row: u32 }

// What a workgroup is for: so many heads of a row that share a KV head, of whose keys it sees its split.
struct Share { row: u32, split: u32, team: u32, kv_head: u32, heads: u32, in_row: u32, first_head: u32 }

// Rounded down, of numbers below 2^20: by floats, since integers take forty instructions, for which all else waits.
fn quotient(a: u32, b: u32) -> u32 { return u32((f32(a) + 0.5) / f32(b)); }

fn share_of(group: vec3u) -> Share {
  let kv_head = quotient(group.x, params.teams);
  let team = group.x - kv_head * params.teams;
  let in_row = kv_head * params.ratio + team * params.team_heads;
  return Share(group.z, group.y, team, kv_head, min(params.team_heads, params.ratio - team * params.team_heads), in_row,
               group.z * params.heads + in_row);
}

// Tiles of `held` keys each go round the splits that have any: as many as there are split_keys for, or the first. Which of them are a split's,
// and whether its last one has the newest key.
struct Rounds { used: u32, count: u32, has_newest: bool }

fn rounds_of(keys: Keys, held: u32, split: u32) -> Rounds {
  let tiles = (keys.count + held - 1) / held;
  if (!SPLIT) { return Rounds(1, tiles, keys.newest); }
  let used = clamp((keys.count + SPLIT_KEYS - 1) / SPLIT_KEYS, 1, params.splits);
  let count = select(quotient(max(tiles, split) - split + used - 1, used), 0, split >= used);
  return Rounds(used, count, keys.newest & (split < used) & (split + (count - 1) * used == tiles - 1));
}

fn softcapped(scores: vec4f) -> vec4f {
  if (params.attn_softcap == 0) { return scores; }
  return params.attn_softcap * tanh(clamp(scores / params.attn_softcap, vec4f(-10), vec4f(10)));
}
