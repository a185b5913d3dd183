//! SentencePiece's BPE: symbols start as characters, and the pair whose union has the highest score merges
//! first, the leftmost among equals (Kudo and Richardson, arXiv 1808.06226; bpe_model.cc there).
//!
//! A merge table in the manner of tokenizer.json cannot say this exactly, since it ranks equal scores.
use ahash::AHashMap;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

const NONE: u32 = u32::MAX;

pub struct SentencePiece {
    pieces: AHashMap<Box<str>, (u32, f32)>,
    longest: usize,
    bytes: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
}

struct Symbol {
    begin: usize,
    bytes: usize, // 0: merged into its left neighbour
    left: u32,
    right: u32,
}

struct Candidate {
    score: f32,
    left: u32,
    right: u32,
    bytes: usize, // of both symbols when this was queued: the entry is stale once they have grown
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.partial_cmp(&other.score).unwrap_or(Ordering::Equal);
        by_score.then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl SentencePiece {
    /// `pieces`: what text may turn into, with finite scores; `bytes`: the token of each byte, for characters
    /// that no piece spells; where one is missing, `unknown` stands for the character.
    pub fn new(
        pieces: AHashMap<Box<str>, (u32, f32)>,
        bytes: Box<[Option<u32>; 256]>,
        unknown: Option<u32>,
    ) -> Self {
        let longest = pieces.keys().map(|piece| piece.len()).max().unwrap_or(0);
        Self { pieces, longest, bytes, unknown }
    }

    pub fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<(), String> {
        let count = text.chars().count();
        if count >= NONE as usize {
            return Err(format!("the text has {count} characters, at most {} can be encoded", NONE - 1));
        }
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .zip(0u32..)
            .map(|((begin, char), i)| Symbol {
                begin,
                bytes: char.len_utf8(),
                left: i.wrapping_sub(1),
                right: i + 1,
            })
            .collect();
        match symbols.last_mut() {
            Some(last) => last.right = NONE,
            None => return Ok(()),
        }

        let mut queue = BinaryHeap::new();
        for right in 1..count as u32 {
            self.consider(text, &symbols, right - 1, right, &mut queue);
        }
        while let Some(best) = queue.pop() {
            let (left, right) = (best.left as usize, best.right as usize);
            if symbols[left].bytes == 0
                || symbols[right].bytes == 0
                || symbols[left].bytes + symbols[right].bytes != best.bytes
            {
                continue;
            }
            let beyond = symbols[right].right;
            symbols[left].bytes = best.bytes;
            symbols[left].right = beyond;
            symbols[right].bytes = 0;
            if beyond != NONE {
                symbols[beyond as usize].left = best.left;
            }
            self.consider(text, &symbols, symbols[left].left, best.left, &mut queue);
            self.consider(text, &symbols, best.left, beyond, &mut queue);
        }

        for symbol in symbols.iter().filter(|symbol| symbol.bytes > 0) {
            self.push(&text[symbol.begin..symbol.begin + symbol.bytes], out)?;
        }
        Ok(())
    }

    fn consider(
        &self,
        text: &str,
        symbols: &[Symbol],
        left: u32,
        right: u32,
        queue: &mut BinaryHeap<Candidate>,
    ) {
        if left == NONE || right == NONE {
            return;
        }
        let begin = symbols[left as usize].begin;
        let bytes = symbols[left as usize].bytes + symbols[right as usize].bytes;
        if bytes > self.longest {
            return;
        }
        if let Some(&(_, score)) = self.pieces.get(&text[begin..begin + bytes]) {
            queue.push(Candidate { score, left, right, bytes });
        }
    }

    fn push(&self, symbol: &str, out: &mut Vec<u32>) -> Result<(), String> {
        if let Some(&(id, _)) = self.pieces.get(symbol) {
            out.push(id);
        } else if symbol.bytes().all(|byte| self.bytes[byte as usize].is_some()) {
            out.extend(symbol.bytes().filter_map(|byte| self.bytes[byte as usize]));
        } else {
            out.push(self.unknown.ok_or_else(|| format!("the vocabulary cannot spell {symbol:?}"))?);
        }
        Ok(())
    }
}
