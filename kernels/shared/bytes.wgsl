// bytes.wgsl: words that lie at even bytes of `quantized`, as those of blocks of 34 or 210 bytes do.
//
// Needs: var<storage, read> quantized: array<u32>.
fn word_at(byte: u32) -> u32 {
  let low = quantized[byte >> 2];
  let high = quantized[(byte + 2) >> 2];  // the same word where that is the whole
  return select((low >> 16) | (high << 16), low, (byte & 2) == 0);
}

fn half_at(byte: u32) -> u32 { return (quantized[byte >> 2] >> ((byte & 2) << 3)) & 0xffff; }
