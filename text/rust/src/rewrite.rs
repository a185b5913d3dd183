//! A template's text as minijinja must have it to do what Jinja2 does where their grammars or operators differ.
//! Line feeds stay where they are, so that messages name the right lines.
use minijinja::machinery::{tokenize, Token, WhitespaceConfig};

/// Filters that the text calls then.
pub const ITERATED: &str = "__iter__";
pub const ADDED: &str = "__add__";

struct Piece<'a> {
    token: Token<'a>,
    begin: usize,
    end: usize,
}

/// Replaces begin .. end.
struct Edit {
    begin: usize,
    end: usize,
    text: String,
}

/// - `{% generation %}` … `{% endgeneration %}`, which mark for training what the model says, become an `if true`.
/// - `{% for x in y %}` asks whether y can be iterated: minijinja takes none for an empty list.
/// - `a + b + c` becomes a filter where there are filters that make Markup, which `+` escapes to.
pub fn rewrite(source: &str) -> String {
    let whitespace =
        WhitespaceConfig { keep_trailing_newline: true, lstrip_blocks: false, trim_blocks: false };
    let pieces: Result<Vec<Piece>, _> = tokenize(source, false, Default::default(), whitespace)
        .map(|token| {
            token.map(|(token, at)| Piece {
                token,
                begin: at.start_offset as usize,
                end: at.end_offset as usize,
            })
        })
        .collect();
    let Ok(pieces) = pieces else { return source.to_string() }; // the parser says what is wrong with it
    let markup = pieces.windows(2).any(|pair| {
        matches!(pair, [Piece { token: Token::Pipe, .. }, filter] if ["safe", "escape", "e"].iter().any(|name| is(filter, name)))
    });
    let mut edits = Vec::new();
    for tag in pieces.split(|piece| matches!(piece.token, Token::VariableEnd | Token::BlockEnd)) {
        let Some(begin) =
            tag.iter().position(|piece| matches!(piece.token, Token::VariableStart | Token::BlockStart))
        else {
            continue;
        };
        let is_block = matches!(tag[begin].token, Token::BlockStart);
        let inside = &tag[begin + 1..];
        if markup {
            add_sums(inside, is_block, &mut edits);
        }
        if is_block {
            add_block(inside, &mut edits);
        }
    }
    edits.sort_by_key(|edit| edit.begin);
    let mut out = String::with_capacity(source.len() + 16 * edits.len());
    let mut at = 0;
    for edit in edits {
        out.push_str(&source[at..edit.begin]);
        out.push_str(&edit.text);
        at = edit.end;
    }
    out + &source[at..]
}

fn is(piece: &Piece, name: &str) -> bool {
    matches!(piece.token, Token::Ident(ident) if ident == name)
}

fn opens(piece: &Piece) -> bool {
    matches!(piece.token, Token::ParenOpen | Token::BracketOpen | Token::BraceOpen)
}

fn closes(piece: &Piece) -> bool {
    matches!(piece.token, Token::ParenClose | Token::BracketClose | Token::BraceClose)
}

/// first .. last as the input of a filter.
fn add_filter(begin: usize, end: usize, filter: &str, edits: &mut Vec<Edit>) {
    edits.push(Edit { begin, end: begin, text: "(".into() });
    edits.push(Edit { begin: end, end, text: format!(")|{filter}") });
}

fn add_block(inside: &[Piece], edits: &mut Vec<Edit>) {
    match inside {
        [only] if is(only, "generation") => {
            edits.push(Edit { begin: only.begin, end: only.end, text: "if true".into() })
        }
        [only] if is(only, "endgeneration") => {
            edits.push(Edit { begin: only.begin, end: only.end, text: "endif".into() })
        }
        [first, rest @ ..] if is(first, "for") => {
            let mut depth = 0;
            let mut outside = rest.iter().enumerate().filter(|(_, piece)| {
                depth += i32::from(opens(piece)) - i32::from(closes(piece));
                depth == 0
            });
            let Some((of, _)) = outside.find(|(_, piece)| is(piece, "in")) else { return };
            let end = outside.find(|(_, piece)| is(piece, "if") || is(piece, "recursive"));
            let end = end.map_or(rest.len(), |(end, _)| end);
            if let [first, .., last] | [first @ last] = &rest[of + 1..end] {
                add_filter(first.begin, last.end, ITERATED, edits);
            }
        }
        _ => {}
    }
}

/// A part of an expression that no operator weaker than + divides.
#[derive(Default)]
struct Sum {
    begin: Option<usize>,
    end: usize,
    pluses: Vec<(usize, usize)>,
    mixed: bool, // with a minus, or a sign: no sum of strings
}

impl Sum {
    fn add_to(self, edits: &mut Vec<Edit>) {
        if let (Some(begin), false, false) = (self.begin, self.mixed, self.pluses.is_empty()) {
            edits.extend(self.pluses.iter().map(|&(begin, end)| Edit { begin, end, text: ",".into() }));
            add_filter(begin, self.end, ADDED, edits);
        }
    }
}

/// a + b + c as (a, b, c)|__add__, in brackets, too.
fn add_sums(inside: &[Piece], is_block: bool, edits: &mut Vec<Edit>) {
    let mut outer = Vec::new(); // of the brackets that are open
    let mut sum = Sum::default();
    for (i, piece) in inside.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| &inside[i]);
        let word = |name| is(piece, name) && !before.is_some_and(|piece| matches!(piece.token, Token::Dot));
        let divides = match piece.token {
            Token::Comma | Token::Colon | Token::Assign | Token::Eq | Token::Ne => true,
            Token::Gt | Token::Gte | Token::Lt | Token::Lte => true,
            Token::Ident("not") => !before.is_some_and(|piece| is(piece, "is")),
            _ => ["and", "or", "in", "if", "else", "recursive"].into_iter().any(word) || (is_block && i == 0),
        };
        if divides {
            std::mem::take(&mut sum).add_to(edits);
            continue;
        }
        match piece.token {
            Token::Plus if sum.end > 0 && before.is_some_and(|piece| piece.end == sum.end) => {
                sum.pluses.push((piece.begin, piece.end));
                continue;
            }
            Token::Plus | Token::Minus => sum.mixed = true,
            _ => {}
        }
        if closes(piece) {
            std::mem::take(&mut sum).add_to(edits);
            sum = outer.pop().unwrap_or_default();
        }
        sum.begin.get_or_insert(piece.begin);
        sum.end = piece.end;
        if opens(piece) {
            outer.push(std::mem::take(&mut sum));
        }
    }
    sum.add_to(edits);
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn what_minijinja_lacks_becomes_what_it_has() {
        assert_eq!(rewrite("{%- generation -%}a{% endgeneration %}"), "{%- if true -%}a{% endif %}");
        assert_eq!(rewrite("{% raw %}{% generation %}{% endraw %}"), "{% raw %}{% generation %}{% endraw %}");
        assert_eq!(
            rewrite("{% for a in x.in(b if c) if d recursive %}"),
            "{% for a in (x.in(b if c))|__iter__ if d recursive %}"
        );
        assert_eq!(rewrite("{% for k, v in x %}{{ k + v }}"), "{% for k, v in (x)|__iter__ %}{{ k + v }}");
        assert_eq!(rewrite("{{ 'a"), "{{ 'a");
    }

    #[test]
    fn sums_become_filters_where_there_is_markup() {
        let sum = |text: &str| {
            let end = "{{ x|safe }}";
            rewrite(&(text.to_string() + end)).strip_suffix(end).unwrap().to_string()
        };
        assert_eq!(sum("{{ a + b|e + c ~ d }}"), "{{ (a , b|e , c ~ d)|__add__ }}");
        assert_eq!(
            sum("{% if a + b == (c + d)[e + 1] and f + g is not none %}"),
            "{% if (a , b)|__add__ == ((c , d)|__add__)[(e , 1)|__add__] and (f , g is not none)|__add__ %}"
        );
        assert_eq!(
            sum("{% for a in b + c if a + d %}"),
            "{% for a in ((b , c)|__add__)|__iter__ if (a , d)|__add__ %}"
        );
        assert_eq!(
            sum("{% set a = f(b + 'c', +d, e - f + g) %}"),
            "{% set a = f((b , 'c')|__add__, +d, e - f + g) %}"
        );
        assert_eq!(sum("a + b {# c + d #}"), "a + b {# c + d #}");
    }
}
