// gather.wgsl: rows of an embedding table, by token id, as f32. An id outside the vocabulary gives zeros.
//
// Four elements of y a lane: 16 bytes, which no other lane writes. Grid: elements / 4 / WORKGROUP_SIZE, folded into
// (x, y) beyond 65535.
// Limits: 2^32 - 1 elements of y; USE_VEC4 takes hidden_size in fours; a table with transpose fits one binding, others go in parts.
// Replaces main and gather_vec4 of the old gather.wgsl and gather_f16.wgsl.

#import lane
#import blocks

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;         // four elements decoded at once; hidden_size a multiple of 4
override F16_EMBEDDINGS: bool = false;   // the table is f16; WEIGHT_TYPE stays 0
override WEIGHT_TYPE: u32 = 0;           // shared/blocks.wgsl
override ROW_TILE: u32 = 1;              // of the table: kernels/weight.hpp

struct Params {
  num_tokens: u32,
  hidden_size: u32,
  vocab_size: u32,
  transpose: u32,     // 1: the table is [hidden_size, vocab_size]
  index_offset: u32,  // where the first id is
  index_stride: u32,  // words from id to id: 1, or that of slots
  row_blocks: u32,    // blocks a row of the table
  first_id: u32,      // the table is of ids first_id on, num_ids of them: others' rows of y stay, but that
  num_ids: u32,       // the first table, of first_id 0, writes the zeros
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> indices: array<u32>;      // [words] ids, index_stride apart
@group(0) @binding(2) var<storage, read> quants: array<vec4u>;  // the table, packed: [num_ids, hidden_size]
@group(0) @binding(3) var<storage, read> scales: array<u32>;    // the same
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>; // [num_tokens, hidden_size]

fn quant(i: u32) -> vec4u { return quants[i]; }
fn scale_word(i: u32) -> u32 { return scales[i]; }
fn weight_type() -> u32 { return select(WEIGHT_TYPE, F16, F16_EMBEDDINGS); }

fn id_of(token: u32) -> u32 { return indices[params.index_offset + token * params.index_stride]; }

// Columns col to col + 3 of a row of the table as it lies; col is a multiple of 4.
fn four(row: u32, col: u32) -> vec4f { return decode_four(place_of(row, col / 32, params.row_blocks), col / 4 % 8); }

// Of an id, counted from first_id.
fn element(id: u32, col: u32) -> f32 {
  if (id >= params.num_ids) { return 0; }
  let row = select(id, col, params.transpose != 0);
  let of_row = select(col, id, params.transpose != 0);
  return four(row, of_row / 4 * 4)[of_row % 4];
}

// An id's row of the table. Below the first id it wraps, beyond the last one.
fn row_of(id: u32) -> u32 { return id - params.first_id; }
fn is_ours(id: u32) -> bool { return row_of(id) < params.num_ids || (params.first_id == 0 && id >= params.vocab_size); }

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let i = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let size = params.num_tokens * params.hidden_size;
  let first = 4 * i;
  if (first >= size) { return; }
  if (USE_VEC4 & (params.transpose == 0)) {
    let id = id_of(first / params.hidden_size);
    if (!is_ours(id)) { return; }
    var e = vec4f();
    if (row_of(id) < params.num_ids) { e = four(row_of(id), first % params.hidden_size); }
    y[i] = e;
    return;
  }
  var e = y[i];  // what follows y stays, and what another table's ids name
  // One element at a time: unrolled, the decoders would be compiled once for each.
  for (var j = 0u; j < min(4, size - first); j++) {
    let id = id_of((first + j) / params.hidden_size);
    if (is_ours(id)) { e[j] = element(row_of(id), (first + j) % params.hidden_size); }
  }
  y[i] = e;
}
