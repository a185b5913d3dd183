//! Byte-level BPE in the manner of GPT-2: text is split by regular expressions, the bytes of each piece are
//! written as printable characters, and the merges join them.
use ahash::AHashMap;
use fancy_regex::{Regex, RegexBuilder};
use tokenizers::models::bpe::BPE;
use tokenizers::Model;

// The splits of the models' tokenizer.json, but possessive (++) where what follows can't begin with what was
// taken: the same matches, without a stack of the ways back.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s+(?!\S)|\s++";
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|",
    r"\s*[\r\n]++|\s+(?!\S)|\s++",
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}++|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*+|",
    r"\s*[\r\n]++|\s+(?!\S)|\s++",
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]++|\p{N}|",
    r" ?[^\s\p{L}\p{M}\p{N}]++[\r\n]*+|\s*[\r\n]++|\s+(?!\S)|\s++",
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]++(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n/]*+|\s*[\r\n]++|\s+(?!\S)|\s++",
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]++|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]++[\r\n/]*+|\s*[\r\n]++|\s+(?!\S)|\s++",
);
const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]++|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]++|"##,
    r##" ?[\p{P}\p{S}]++[\r\n]*+|\s*[\r\n]++|\s+(?!\S)|\s++"##,
);
// DeepSeek's list of cased letters: Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee and a few more.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}",
    r"\u{295}-\u{2AF}\u{370}-\u{373}\u{376}-\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}",
    r"\u{38E}-\u{3A1}\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}",
    r"\u{13A0}-\u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}",
    r"\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}",
    r"\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}",
    r"\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}",
    r"\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}",
    r"\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}",
    r"\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}-\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}",
    r"\u{2CEB}-\u{2CEE}\u{2CF2}-\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}",
    r"\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}",
    r"\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}",
    r"\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+",
);
const DEEPSEEK_SIGNS: &str =
    r"\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+";
const DEEPSEEK_CJK: &str = r"[\u{4E00}-\u{9FA5}\u{0800}-\u{4E00}\u{AC00}-\u{D7FF}]+";

/// How text is split before the merges: each expression in turn isolates its matches in the pieces so far.
struct Split {
    expressions: &'static [&'static str],
    // Llama 3 and Tekken: a piece that is a token as it stands is not taken apart ("ignore_merges"), and
    // texts begin with bos unless the file says otherwise.
    as_llama3: bool,
}

/// The split of `tokenizer.ggml.pre`, from the tokenizer.json of the models of that name.
fn split(pre: &str) -> Result<Split, String> {
    let (expressions, as_llama3): (&[&str], bool) = match pre {
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "exaone4" | "gigachat" | "a.x-4.0" | "mellum"
        | "modern-bert" | "trillion" | "granite-docling" => (&[GPT2], false),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            (&[r"\p{N}", GPT2], false)
        }
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2" => {
            (&[LLAMA3], true)
        }
        "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => (&[LLAMA3], false),
        "qwen2" | "deepseek-r1-qwen" | "megrez" | "stablelm2" | "hunyuan" | "grok-2" | "kormo"
        | "solar-open" => (&[QWEN2], false),
        "qwen35" => (&[QWEN35], false),
        "gpt-4o" | "llama4" | "kanana2" | "minimax-m2" => (&[GPT4O], false),
        "tekken" => (&[TEKKEN], true),
        "deepseek-llm" => {
            (&[r"[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_SIGNS, r"\s+$", DEEPSEEK_CJK, r"\p{N}"], false)
        }
        "deepseek-coder" => (&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, r"\p{N}"], false),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" => {
            (&[r"\p{N}{1,3}", r"[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+", DEEPSEEK3], false)
        }
        "falcon" => (&[r"[\p{P}$+<=>^~|`]+", GPT2, r"[0-9][0-9][0-9]"], false),
        "default" => (&[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"], false),
        _ => return Err(format!("the split \"{pre}\" (tokenizer.ggml.pre) is not known")),
    };
    Ok(Split { expressions, as_llama3 })
}

/// GPT-2's alphabet: the character that stands for each byte.
pub fn alphabet() -> [char; 256] {
    let mut next = 256;
    std::array::from_fn(|byte| match byte as u8 {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => byte as u8 as char,
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or_default()
        }
    })
}

pub struct ByteLevel {
    expressions: Vec<Regex>,
    alphabet: [char; 256],
    bpe: BPE,
    pub usually_bos: bool, // whether texts begin with bos where the file does not say
}

impl ByteLevel {
    /// `vocabulary`: what text may turn into; `merges`: pairs of its tokens, the first merges first. A byte
    /// that no token spells is left out of the result, as by the models' own tokenizers (SmolLM2 lacks 0x04
    /// and others).
    pub fn new(
        pre: &str,
        vocabulary: AHashMap<String, u32>,
        merges: Vec<(String, String)>,
    ) -> Result<Self, String> {
        let split = split(pre)?;
        let alphabet = alphabet();
        let expressions = split.expressions.iter().map(|expression| {
            let regex = RegexBuilder::new(expression).backtrack_limit(usize::MAX).build();
            regex.map_err(|error| error.to_string())
        });
        let bpe = BPE::builder().vocab_and_merges(vocabulary, merges).ignore_merges(split.as_llama3);
        Ok(Self {
            expressions: expressions.collect::<Result<_, _>>()?,
            alphabet,
            bpe: bpe.build().map_err(|error| error.to_string())?,
            usually_bos: split.as_llama3,
        })
    }

    pub fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<(), String> {
        let mut pieces = vec![text];
        for expression in &self.expressions {
            pieces = isolate(expression, &pieces)?;
        }
        let mut spelled = String::new();
        for piece in pieces {
            spelled.clear();
            spelled.extend(piece.bytes().map(|byte| self.alphabet[byte as usize]));
            let tokens = self.bpe.tokenize(&spelled).map_err(|error| error.to_string())?;
            out.extend(tokens.iter().map(|token| token.id));
        }
        Ok(())
    }
}

/// Cuts each piece into the matches of `expression` and what lies between them.
fn isolate<'t>(expression: &Regex, pieces: &[&'t str]) -> Result<Vec<&'t str>, String> {
    let mut out = Vec::new();
    for piece in pieces {
        let mut done = 0;
        for found in expression.find_iter(piece) {
            let found = found.map_err(|error| format!("the text cannot be split into words: {error}"))?;
            if found.start() > done {
                out.push(&piece[done..found.start()]);
            }
            out.push(found.as_str());
            done = found.end();
        }
        if done < piece.len() {
            out.push(&piece[done..]);
        }
    }
    Ok(out)
}
