//! Reports, for people and for programs.
//!
//! What comes from manifests and policies is not trusted: nothing of it reaches a terminal that would move the cursor, change
//! colours or turn the direction of writing.

pub mod human;
pub mod json;
mod yaml;

/// Whether a terminal would act on the character, or show another text than there is: control characters, separators of
/// lines, and what turns the direction of writing (<https://trojansource.codes>).
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}'
        )
}

/// The text with each unsafe character replaced by one that shows that something was there.
fn safe(text: &str) -> String {
    text.chars().map(|character| if is_unsafe(character) { char::REPLACEMENT_CHARACTER } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_replaced() {
        assert_eq!(
            safe("a\u{1b}[31m\u{9b}2J\r\n\u{202e}b\u{2028}\u{7f}"),
            "a\u{fffd}[31m\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}b\u{fffd}\u{fffd}"
        );
        assert_eq!(safe("zoö 日本 😀"), "zoö 日本 😀");
    }
}
