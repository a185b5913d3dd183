// kv.wgsl: where positions lie in a KV cache of [kv_rows, kv_heads, head_dim].
//
// Needs: params with kv_layout, capacity, page_size (a power of two); binding block_table: array<u32>.
// kv_layout 0, contiguous: slot after slot, `capacity` rows each. 1, ring: the same, position modulo capacity.
// 2, paged: blocks of page_size rows, named by block_table[slot, position / page_size].
const KV_CONTIGUOUS = 0;
const KV_RING = 1;
const KV_PAGED = 2;

// Positions first, first + 1, … of a slot, at most `capacity` of them.
struct KvRun { slot: u32, first: u32, start: u32 }  // start: `first` as a row of the slot

fn kv_run(slot: u32, first: u32) -> KvRun {
  return KvRun(slot, first, select(first, first % params.capacity, params.kv_layout == KV_RING));
}

// Two elements as a cache of f16 has them; beyond f16's range +-65504.
fn kv_halves(e: vec2f) -> u32 { return pack2x16float(clamp(e, vec2f(-65504), vec2f(65504))); }

// A cache of q8_0: 8-bit integers [kv_rows, kv_heads, head_dim], four a word; behind all of them a f16 scale for each 32 of a head,
// two a word, a head's in whole words. `heads` is kv_rows * kv_heads, `head` row * kv_heads + kv_head, d a dimension.
fn q8_scale_words(head_dim: u32) -> u32 { return (head_dim + 63) / 64; }
fn q8_scale_word(heads: u32, head_dim: u32, head: u32, d: u32) -> u32 {
  return heads * (head_dim / 4) + head * q8_scale_words(head_dim) + d / 64;
}
fn q8_scale(word: u32, d: u32) -> f32 {
  let two = unpack2x16float(word);
  return select(two.x, two.y, (d & 32) != 0);
}

// The cache row of the run's position i. No division: it is asked for every key.
fn kv_row(run: KvRun, i: u32) -> u32 {
  if (params.kv_layout == KV_PAGED) {
    let shift = countTrailingZeros(params.page_size);
    let position = run.first + i;
    let block = block_table[run.slot * (params.capacity >> shift) + (position >> shift)];
    return (block << shift) + (position & (params.page_size - 1));
  }
  let row = run.start + i;
  return run.slot * params.capacity + row - select(0, params.capacity, params.kv_layout == KV_RING && row >= params.capacity);
}
