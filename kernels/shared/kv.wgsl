// kv.wgsl: where the key and value of a position lie in a cache of [kv_rows, kv_heads, head_dim].
//
// layout 0, contiguous: slot after slot, `capacity` rows each. 1, ring: the same, position modulo capacity.
// 2, paged: blocks of page_size rows, named by block_table[slot, position / page_size].
const KV_CONTIGUOUS = 0;
const KV_RING = 1;
const KV_PAGED = 2;

// The cache row of a position. `block` is block_table[slot * (capacity / page_size) + position / page_size],
// read by the caller when paged, anything otherwise.
fn kv_row(kv_layout: u32, slot: u32, position: u32, capacity: u32, page_size: u32, block: u32) -> u32 {
  if (kv_layout == KV_PAGED) { return block * page_size + position % page_size; }
  if (kv_layout == KV_RING) { return slot * capacity + position % capacity; }
  return slot * capacity + position;
}
