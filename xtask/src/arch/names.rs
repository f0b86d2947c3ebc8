//! The names in a Rust text: paths like `std::fs::read`, those in groups written out, without comments and literals.
//!
//! As much of the grammar as that takes; whatever it does not know is passed over.

#[derive(Debug, PartialEq, Eq)]
pub struct Name<'a> {
    pub line: usize,
    pub words: Vec<&'a str>,
}

pub fn names(text: &str) -> Vec<Name<'_>> {
    let tokens = tokens(text);
    let mut names = Vec::new();
    let mut rest = &tokens[..];
    while let [first, others @ ..] = rest {
        match first.kind {
            Kind::Word => rest = path(rest, &[], &mut names),
            _ => rest = others,
        }
    }
    names
}

/// Reads one path and everything in its group, with `prefix` before each; returns what follows.
fn path<'t, 'a>(mut rest: &'t [Token<'a>], prefix: &[&'a str], names: &mut Vec<Name<'a>>) -> &'t [Token<'a>] {
    let mut words = prefix.to_vec();
    let mut line = rest.first().map_or(0, |token| token.line);
    loop {
        match rest {
            [
                Token {
                    kind: Kind::Word,
                    text,
                    line: at,
                },
                others @ ..,
            ] => {
                words.push(text);
                line = *at;
                rest = others;
            }
            [Token { kind: Kind::Open, .. }, others @ ..] => return group(others, &words, names),
            _ => break,
        }
        match rest {
            [Token { kind: Kind::Colons, .. }, others @ ..] => rest = others,
            _ => break,
        }
    }
    names.push(Name { line, words });
    rest
}

fn group<'t, 'a>(mut rest: &'t [Token<'a>], prefix: &[&'a str], names: &mut Vec<Name<'a>>) -> &'t [Token<'a>] {
    while let [first, others @ ..] = rest {
        match first.kind {
            Kind::Close => return others,
            // A new name for the one before.
            Kind::Word if first.text == "as" => rest = others.get(1..).unwrap_or_default(),
            Kind::Word | Kind::Open => rest = path(rest, prefix, names),
            _ => rest = others,
        }
    }
    rest
}

struct Token<'a> {
    kind: Kind,
    text: &'a str,
    line: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Colons,
    Open,
    Close,
    Other,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(first) = text[at..].chars().next() {
        let (length, kind) = next(&text[at..], first);
        let token = &text[at..at + length];
        if let Some(kind) = kind {
            tokens.push(Token {
                kind,
                text: token,
                line,
            });
        }
        line += token.matches('\n').count();
        at += length;
    }
    tokens
}

/// How long the token at the beginning of `text` is, and its kind; none for what is no code.
fn next(text: &str, first: char) -> (usize, Option<Kind>) {
    let until = |end: &str| text.find(end).map_or(text.len(), |at| at + end.len());
    if text.starts_with("//") {
        return (until("\n"), None);
    }
    if text.starts_with("/*") {
        return (until("*/"), None);
    }
    if let Some(length) = raw_string(text) {
        return (length, None);
    }
    match first {
        '"' => (quoted(text, '"'), None),
        '\'' if is_character(text) => (quoted(text, '\''), None),
        '{' => (1, Some(Kind::Open)),
        '}' => (1, Some(Kind::Close)),
        ':' if text.starts_with("::") => (2, Some(Kind::Colons)),
        _ if first.is_alphabetic() || first == '_' => {
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
            (end.unwrap_or(text.len()), Some(Kind::Word))
        }
        _ if first.is_whitespace() => (first.len_utf8(), None),
        _ => (first.len_utf8(), Some(Kind::Other)),
    }
}

/// `r"…"`, `br#"…"#` and so on.
fn raw_string(text: &str) -> Option<usize> {
    let raw = text.trim_start_matches(['b', 'c']).strip_prefix('r')?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let body = raw[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", &raw[..hashes]);
    let start = text.len() - body.len();
    Some(body.find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// Up to the closing quote, which a backslash hides.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// Rather than a lifetime.
fn is_character(text: &str) -> bool {
    let mut rest = text.chars().skip(1);
    rest.next() == Some('\\') || rest.next() == Some('\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        names(text)
            .into_iter()
            .map(|name| format!("{} {}", name.line, name.words.join("::")))
            .collect()
    }

    #[test]
    fn groups_are_written_out() {
        let expected = ["1 use", "1 a::b", "1 a::c::d", "1 a::c::self", "1 a::e", "2 use", "2 g"];
        assert_eq!(read("use a::{b, c::{d, self}, e as f};\nuse g::*;"), expected);
    }

    #[test]
    fn blocks_are_no_groups() {
        assert_eq!(
            read("mod a {\n fn b<'x>() { c::d() }\n}\ne"),
            ["1 mod", "1 a", "2 fn", "2 b", "2 x", "2 c::d", "4 e"]
        );
    }

    #[test]
    fn comments_and_literals_hold_no_names() {
        assert_eq!(
            read("a // b\n/* c\n d */ e \"f\\\" g\" r#\"h \" i\"# br\"j\" 'k' '\\'' b'l' m"),
            ["1 a", "3 e", "3 b", "3 m"]
        );
    }
}
