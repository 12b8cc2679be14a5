//! Bytes to text: byte order marks, UTF-16, and what is no text at all.

use std::borrow::Cow;

/// What cannot be taken for text, and the byte where this shows.
pub(crate) struct NotText {
    /// Bytes before this one are text.
    pub(crate) at: usize,
    pub(crate) message: &'static str,
}

/// A text, perhaps with holes.
pub(crate) struct Text<'a> {
    pub(crate) text: Cow<'a, str>,
    /// Where in `text` a replacement character stands for bytes that are not UTF-8. In order.
    pub(crate) broken: Vec<usize>,
}

/// Reads bytes as UTF-8, or as UTF-16 if they begin with its byte order mark (as Windows' shells write, and as kubectl
/// reads). A zero byte is never part of a manifest: what has one is not read at all. Other bytes that are not UTF-8 make a
/// hole, so that the documents around it can still be read.
pub(crate) fn read(bytes: &[u8]) -> Result<Text<'_>, NotText> {
    let text = match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        _ => utf8(bytes),
    };
    match text.text.bytes().position(|byte| byte == 0) {
        Some(at) => {
            Err(NotText { at, message: "not a text file: it holds a zero byte (if it is text, save it as UTF-8)" })
        }
        None => Ok(text),
    }
}

fn utf8(bytes: &[u8]) -> Text<'_> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Text { text: Cow::Borrowed(text), broken: Vec::new() };
    }
    let mut text = String::with_capacity(bytes.len());
    let mut broken = Vec::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            broken.push(text.len());
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    Text { text: Cow::Owned(text), broken }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Text<'static>, NotText> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len() / 2);
    for character in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        match character {
            Ok(character) => text.push(character),
            Err(_) => {
                return Err(NotText { at: text.len(), message: "not a text file: broken UTF-16 (save it as UTF-8)" });
            }
        }
    }
    if !rest.is_empty() {
        return Err(NotText {
            at: text.len(),
            message: "not a text file: UTF-16 that ends within a character (save it as UTF-8)",
        });
    }
    Ok(Text { text: Cow::Owned(text), broken: Vec::new() })
}

/// The first character that YAML forbids, and its name. go-yaml refuses all but `\t`, `\n`, `\r`, U+0020-U+007E, U+0085,
/// U+00A0-U+D7FF, U+E000-U+FFFD and U+10000-U+10FFFF (`yaml_parser_update_buffer` in readerc.go).
pub(crate) fn forbidden(text: &str) -> Option<(usize, char)> {
    // Bytes decide nearly all of the text; characters are looked at only where a byte is suspect.
    let mut from = 0;
    let bytes = text.as_bytes();
    loop {
        let suspect =
            |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r') || matches!(byte, 0x7F | 0xC2 | 0xEF);
        let at = from + bytes[from..].iter().position(suspect)?;
        let character = text.get(at..)?.chars().next()?;
        let allowed = matches!(character, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{A0}'..='\u{FFFD}');
        if !allowed {
            return Some((at, character));
        }
        from = at + character.len_utf8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_characters_are_found_where_they_are() {
        for (text, expected) in [
            ("a: é\t\r\n", None),
            ("a: \u{85}\u{a0}\u{feff}\u{fffd}😀", None),
            ("aé\u{7}b", Some((3, '\u{7}'))),
            ("\u{7f}", Some((0, '\u{7f}'))),
            ("é\u{80}", Some((2, '\u{80}'))),
            ("\u{9f}", Some((0, '\u{9f}'))),
            ("ï\u{fffe}", Some((2, '\u{fffe}'))),
        ] {
            assert_eq!(forbidden(text), expected, "{text:?}");
        }
    }
}
