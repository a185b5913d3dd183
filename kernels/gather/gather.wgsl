// gather.wgsl: rows of an embedding table, by token id, as f32. An id outside the vocabulary gives zeros.
//
// One element a lane, or with USE_VEC4 one block of 32. Grid: those over WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Replaces main and gather_vec4 of the old gather.wgsl and gather_f16.wgsl.

#import lane
#import blocks

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;         // a block of 32 a lane, written in fours; hidden_size a multiple of 4
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
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> indices: array<u32>;      // [words] ids, index_stride apart
@group(0) @binding(2) var<storage, read> quants: array<vec4u>;  // the table, packed: [vocab_size, hidden_size]
@group(0) @binding(3) var<storage, read> scales: array<u32>;    // the same
@group(0) @binding(4) var<storage, read_write> y: array<f32>;   // [num_tokens, hidden_size]

fn weight_type() -> u32 { return select(WEIGHT_TYPE, F16, F16_EMBEDDINGS); }

fn element(row: u32, col: u32) -> f32 {
  var w = decode_block(place_of(row, col >> 5, params.row_blocks));
  return w[(col >> 2) & 7][col & 3];
}

fn table(id: u32, col: u32) -> f32 {
  if (id >= params.vocab_size) { return 0; }
  if (params.transpose != 0) { return element(col, id); }
  return element(id, col);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let i = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  if (!USE_VEC4) {
    let token = i / params.hidden_size;
    if (token >= params.num_tokens) { return; }
    y[i] = table(indices[params.index_offset + token * params.index_stride], i % params.hidden_size);
    return;
  }
  let blocks = (params.hidden_size + 31) / 32;
  let token = i / blocks;
  if (token >= params.num_tokens) { return; }
  let id = indices[params.index_offset + token * params.index_stride];
  let first = i % blocks * 32;
  if (params.transpose != 0) {
    // One element at a time: unrolled, the decoders would be compiled once for each.
    for (var col = first; col < min(first + 32, params.hidden_size); col++) { y[token * params.hidden_size + col] = table(id, col); }
    return;
  }
  var w = array<vec4f, 8>();
  if (id < params.vocab_size) { w = decode_block(place_of(id, first / 32, params.row_blocks)); }
  for (var j = 0u; j < 8; j++) {
    let col = first + 4 * j;
    if (col >= params.hidden_size) { break; }
    let e = w[j];
    let to = token * params.hidden_size + col;
    y[to] = e.x;
    y[to + 1] = e.y;
    y[to + 2] = e.z;
    y[to + 3] = e.w;
  }
}
