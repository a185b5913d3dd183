//! The C interface of text/text_rust.h. Nothing here panics across it: a panic is an error like any other.
mod byte_level;
mod limits;
mod python;
mod sentencepiece;
mod template;
mod tokenizer;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice::from_raw_parts;
use std::str::from_utf8;
use template::Template;
use tokenizer::{Tokenizer, Vocabulary};

/// Bytes that somebody else owns.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    data: *const u8,
    size: usize,
}

/// Bytes that the other side gives back with ms_text_free.
#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    size: usize,
}

#[repr(C)]
pub struct CVocabulary {
    model: Bytes,
    pre: Bytes,
    tokens: *const Bytes,
    kinds: *const i32,
    strips: *const u8,
    scores: *const f32,
    n_tokens: usize,
    n_scores: usize,
    merges: *const Bytes,
    n_merges: usize,
    unknown: i64,
    space_prefix: bool,
}

pub struct CTokenizer {
    tokenizer: Tokenizer,
    pieces: Vec<Bytes>, // of tokenizer.pieces()
}

impl Bytes {
    unsafe fn get<'a>(&self) -> &'a [u8] {
        slice(self.data, self.size)
    }

    unsafe fn text<'a>(&self) -> Result<&'a str, String> {
        from_utf8(self.get()).map_err(|error| format!("not UTF-8: {error}"))
    }
}

unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        return &[];
    }
    from_raw_parts(data, size)
}
