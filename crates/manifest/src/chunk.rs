//! Cuts a text into documents, where kubectl cuts it.

use std::ops::Range;

/// A stretch of text between two separators.
pub(crate) struct Chunk {
    pub(crate) range: Range<usize>,
    /// The separator before it carries more than a comment. kubectl stops there.
    pub(crate) bad_separator: Option<usize>,
}

/// Cuts at every line that begins with `---`, as kubectl does before any YAML is parsed (`YAMLReader` in
/// k8s.io/apimachinery/pkg/util/yaml/decoder.go). No scalar can hold such a line: YAML ends the document there, too. So that
/// what is broken in one document never reaches the next.
pub(crate) fn split(text: &str) -> impl Iterator<Item = Chunk> {
    let mut start = Some(0);
    let mut bad_separator = None;
    std::iter::from_fn(move || {
        let from = start?;
        let bytes = text.as_bytes();
        let mut line = from;
        loop {
            let end = bytes[line..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| line + length);
            if bytes[line..].starts_with(b"---") {
                let rest = text.get(line + 3..end).unwrap_or_default().trim();
                let chunk = Chunk { range: from..line, bad_separator };
                bad_separator = (!rest.is_empty() && !rest.starts_with('#')).then_some(line);
                start = Some((end + 1).min(bytes.len()));
                return Some(chunk);
            }
            if end == bytes.len() {
                start = None;
                return Some(Chunk { range: from..end, bad_separator });
            }
            line = end + 1;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_where_kubectl_does() {
        for (text, expected) in [
            ("", vec![""]),
            ("a", vec!["a"]),
            ("---\na\n", vec!["", "a\n"]),
            ("a\n---\nb", vec!["a\n", "b"]),
            ("a\n--- # c\nb\n---\t\r\nc", vec!["a\n", "b\n", "c"]),
            ("a\n ---\nb", vec!["a\n ---\nb"]),
            ("a\n---", vec!["a\n", ""]),
            ("a\n----\nb\n", vec!["a\n", "!b\n"]),
            ("--- x\nb\n---\nc", vec!["", "!b\n", "c"]),
        ] {
            let chunks: Vec<_> = split(text)
                .map(|chunk| format!("{}{}", if chunk.bad_separator.is_some() { "!" } else { "" }, &text[chunk.range]))
                .collect();
            assert_eq!(chunks, expected, "{text:?}");
        }
    }
}
