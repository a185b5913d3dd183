// columns.wgsl: four columns a lane of a row, a workgroup apart, so that lanes read and write side by side.
//
// Needs: override WORKGROUP_SIZE; override SMALL_SIZE, or a const: one column a lane; override F16_OUT, or a const: twice two columns that are
// neighbours, and `lane` is twice the lane; params.cols, not 0; fn put(i, value): element i of y; load(base, start, lane): four columns of a
// lane, of a row that begins at base.
fn columns(first: u32) -> vec4u {
  if (F16_OUT) { return first + vec4u(0, 1, 2 * WORKGROUP_SIZE, 2 * WORKGROUP_SIZE + 1); }
  return first + vec4u(0, WORKGROUP_SIZE, 2 * WORKGROUP_SIZE, 3 * WORKGROUP_SIZE);
}

// To load without branches, so that the device keeps them in flight together: in place of columns beyond the row one
// of the lane's own, which no other writes meanwhile; the row's last where it has none.
fn bounded_columns(start: u32, lane: u32) -> vec4u {
  let col = columns(start + lane);
  return select(vec4u(min(lane, params.cols - 1)), col, col < vec4u(params.cols));
}

// Four times four columns of a lane: loads enough in flight, before the first is used.
fn load_each(base: u32, start: u32, lane: u32) -> array<vec4f, 4> {
  return array<vec4f, 4>(load(base, start, lane), load(base, start + 4 * WORKGROUP_SIZE, lane),
                         load(base, start + 8 * WORKGROUP_SIZE, lane), load(base, start + 12 * WORKGROUP_SIZE, lane));
}

// Four columns of a lane to a row of y, those that there are.
fn store(v: vec4f, base: u32, start: u32, lane: u32) {
  if (start >= params.cols) { return; }
  let col = columns(start + lane);
  if (col.x < params.cols) { put(base + col.x, v.x); }
  if (SMALL_SIZE) { return; }
  if (col.y < params.cols) { put(base + col.y, v.y); }
  if (col.z < params.cols) { put(base + col.z, v.z); }
  if (col.w < params.cols) { put(base + col.w, v.w); }
}

// Four times four, as load_each loads them.
fn store_each(v: array<vec4f, 4>, base: u32, start: u32, lane: u32) {
  store(v[0], base, start, lane);
  store(v[1], base, start + 4 * WORKGROUP_SIZE, lane);
  store(v[2], base, start + 8 * WORKGROUP_SIZE, lane);
  store(v[3], base, start + 12 * WORKGROUP_SIZE, lane);
}
