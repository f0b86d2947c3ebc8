//! Lines and columns of a text: found in a moment, also where a line is a megabyte long. Tested here.

use super::diagnostic::Span;

/// Characters are counted once for each block.
const BLOCK: usize = 1024;

pub struct Positions {
    line_starts: Vec<usize>,
    /// How many characters begin before each block.
    characters: Vec<usize>,
    /// Where lines begin that open a section.
    headers: Vec<usize>,
}

impl Positions {
    pub fn new(text: &str) -> Self {
        let line_ends = text.match_indices('\n');
        let mut before = 0;
        let blocks = text.as_bytes().chunks(BLOCK).map(|block| {
            before += beginnings(block);
            before
        });
        Self {
            line_starts: std::iter::once(0).chain(line_ends.map(|(at, _)| at + 1)).collect(),
            characters: std::iter::once(0).chain(blocks).collect(),
            headers: text.match_indices("\n[").map(|(at, _)| at).collect(),
        }
    }

    /// From 1.
    pub fn line_number(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    /// The line around a byte, without its end.
    pub fn line(&self, text: &str, at: usize) -> Span {
        let line = self.line_number(at);
        let end = self.line_starts.get(line).map_or(text.len(), |next| next - 1);
        self.line_starts[line - 1]..end
    }

    /// Characters that begin before a byte.
    pub fn characters(&self, text: &str, at: usize) -> usize {
        let at = at.min(text.len());
        let block = at / BLOCK;
        self.characters[block] + beginnings(&text.as_bytes()[block * BLOCK..at])
    }

    /// Where the next section begins after a byte.
    pub fn next_header(&self, at: usize) -> Option<usize> {
        self.headers
            .get(self.headers.partition_point(|header| *header < at))
            .copied()
    }
}

/// Every byte of UTF-8 but those that continue a character.
fn beginnings(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0b1100_0000 != 0b1000_0000).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_counted_one_by_one(text in "[a\u{e9}\u{4e16}\u{1f600}\n\\[]{0,3000}", at in any::<prop::sample::Index>()) {
            let positions = Positions::new(&text);
            let starts: Vec<usize> = text.char_indices().map(|(start, _)| start).chain([text.len()]).collect();
            let at = starts[at.index(starts.len())];
            let before = &text[..at];
            prop_assert_eq!(positions.characters(&text, at), before.chars().count());
            prop_assert_eq!(positions.line_number(at), 1 + before.matches('\n').count());
            let line = positions.line(&text, at);
            prop_assert_eq!(Some(&text[line]), text.split('\n').nth(positions.line_number(at) - 1));
            prop_assert_eq!(positions.next_header(at), text[at..].find("\n[").map(|found| at + found));
        }
    }
}
