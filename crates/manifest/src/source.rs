//! One input: its name, its text, and where each byte of it stands for a reader.

use std::sync::{Arc, OnceLock};

/// A place in a text, as editors count: lines and columns from 1, columns in Unicode characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The line, from 1. Only `\n` ends a line, so that `\r\n` counts once.
    pub line: u32,
    /// The column, from 1, in Unicode characters. A tab is one character; a byte order mark is none.
    pub column: u32,
}

/// A line of the input, cut to what a terminal can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// At most [`Source::EXCERPT`] characters of the line, tabs made single spaces, without its end.
    pub text: String,
    /// Where in `text` the location stands, from 1.
    pub column: u32,
    /// Whether text was left out before.
    pub cut_before: bool,
    /// Whether text was left out after.
    pub cut_after: bool,
}

/// One input as it was read. Cheap to share: documents hold it in an [`Arc`].
#[derive(Debug)]
pub struct Source {
    name: String,
    text: Arc<str>,
    blocks: OnceLock<Vec<Block>>,
}

/// What precedes a stretch of [`STRETCH`] bytes. A table of such stretches rather than of lines finds a column in a
/// file of one line as quickly as in a file of many.
#[derive(Debug, Clone, Copy)]
struct Block {
    lines: u32,
    line_start: u32,
    chars: u32,
}

const STRETCH: usize = 1024;

impl Source {
    /// The most characters that an [`Excerpt`] holds.
    pub const EXCERPT: usize = 160;

    pub(crate) fn new(name: &str, text: Arc<str>) -> Self {
        Self { name: name.to_owned(), text, blocks: OnceLock::new() }
    }

    /// The name as it was given to the reader: a path, or `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text, without a byte order mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line and column of a byte. An offset behind the end means the end.
    pub(crate) fn location(&self, offset: usize) -> Location {
        let offset = offset.min(self.text.len());
        let (line, start) = self.line_of(offset);
        let column = self.chars_before(offset) - self.chars_before(start) + 1;
        Location { line, column }
    }

    /// A line without its end, or nothing if the text has no such line.
    pub fn line(&self, line: u32) -> Option<&str> {
        let wanted = line.checked_sub(1)?;
        let blocks = self.blocks();
        let block = blocks.partition_point(|block| block.lines < wanted).saturating_sub(1);
        let mut rest = block * STRETCH;
        let mut seen = blocks.get(block)?.lines;
        let bytes = self.text.as_bytes();
        let start = if wanted == 0 {
            0
        } else {
            loop {
                let end = rest + bytes.get(rest..)?.iter().position(|byte| *byte == b'\n')?;
                seen += 1;
                rest = end + 1;
                if seen == wanted {
                    break rest;
                }
            }
        };
        let end = bytes[start..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| start + length);
        let text = self.text.get(start..end)?;
        Some(text.strip_suffix('\r').unwrap_or(text))
    }

    /// The line of a location, cut around its column if it is long.
    pub fn excerpt(&self, location: Location) -> Option<Excerpt> {
        let line = self.line(location.line)?;
        let column = location.column.saturating_sub(1) as usize;
        let skipped = column.saturating_sub(Self::EXCERPT / 2);
        let mut rest = line.chars().skip(skipped);
        let text = rest.by_ref().take(Self::EXCERPT).map(|c| if c.is_control() { ' ' } else { c }).collect();
        Some(Excerpt {
            text,
            column: u32::try_from(column - skipped + 1).unwrap_or(u32::MAX),
            cut_before: skipped > 0,
            cut_after: rest.next().is_some(),
        })
    }

    fn line_of(&self, offset: usize) -> (u32, usize) {
        let block = offset / STRETCH;
        let Some(before) = self.blocks().get(block).copied() else { return (1, 0) };
        let stretch = &self.text.as_bytes()[block * STRETCH..offset];
        let start = stretch
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(before.line_start as usize, |at| block * STRETCH + at + 1);
        (before.lines + newlines(stretch) + 1, start)
    }

    fn chars_before(&self, offset: usize) -> u32 {
        let block = offset / STRETCH;
        let before = self.blocks().get(block).map_or(0, |block| block.chars);
        before + chars(&self.text.as_bytes()[block * STRETCH..offset])
    }

    fn blocks(&self) -> &[Block] {
        self.blocks.get_or_init(|| {
            let mut next = Block { lines: 0, line_start: 0, chars: 0 };
            let mut blocks = vec![next];
            for (index, stretch) in self.text.as_bytes().chunks(STRETCH).enumerate() {
                next.lines += newlines(stretch);
                if let Some(at) = stretch.iter().rposition(|byte| *byte == b'\n') {
                    next.line_start = count(index * STRETCH + at + 1);
                }
                next.chars += chars(stretch);
                blocks.push(next);
            }
            blocks
        })
    }
}

fn newlines(bytes: &[u8]) -> u32 {
    bytes.iter().map(|byte| u32::from(*byte == b'\n')).sum()
}

/// Counts the bytes that begin a character, which works on a stretch that begins inside one.
fn chars(bytes: &[u8]) -> u32 {
    count(bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count())
}

/// Inputs of 4 GiB and more are refused before they become a [`Source`], so that this never saturates.
pub(crate) fn count(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("t.yaml", Arc::from(text))
    }

    /// The obvious way to count, against which the table is held.
    fn slowly(text: &str, offset: usize) -> Location {
        let before = &text[..offset];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Location { line: count(line), column: count(column) }
    }

    #[test]
    fn counts_as_an_editor_does() {
        let mut text = String::new();
        for number in 0..3000 {
            text.push_str(["a: é\r\n", "\n", "日本: 😀\n", "\tx"][number % 4]);
        }
        text.push_str(&"ü".repeat(9000));
        let source = source(&text);
        for (offset, _) in text.char_indices() {
            assert_eq!(source.location(offset), slowly(&text, offset), "at byte {offset}");
        }
        assert_eq!(source.location(usize::MAX), slowly(&text, text.len()));
        for (index, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            assert_eq!(source.line(count(index + 1)), Some(line), "line {}", index + 1);
        }
        assert_eq!(source.line(0), None);
        assert_eq!(source.line(count(text.split('\n').count() + 1)), None);
    }

    #[test]
    fn an_excerpt_of_a_long_line_shows_the_place() {
        let text = format!("{}HERE{}", "é".repeat(5000), "x".repeat(5000));
        let excerpt = source(&text).excerpt(Location { line: 1, column: 5001 }).unwrap();
        assert_eq!(excerpt.text.chars().count(), Source::EXCERPT);
        assert!(excerpt.cut_before && excerpt.cut_after);
        let shown: String = excerpt.text.chars().skip(excerpt.column as usize - 1).take(4).collect();
        assert_eq!(shown, "HERE");
    }

    #[test]
    fn an_excerpt_of_a_short_line_is_the_line() {
        let excerpt = source("a\n\tb: 1\r\nc").excerpt(Location { line: 2, column: 2 }).unwrap();
        let expected = Excerpt { text: " b: 1".into(), column: 2, cut_before: false, cut_after: false };
        assert_eq!(excerpt, expected);
    }
}
