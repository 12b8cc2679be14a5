//! A glob with `*` (any run of characters, also none) and `?` (exactly one character), and nothing else.
//!
//! There is no escape and no class: what is matched here are image names, flags and environment names, which
//! hold neither character. A guest has no room for a regular expression, and no need of one.

/// Whether `pattern` matches the whole of `text`.
///
/// Only the last `*` seen is ever tried again, so that the work is at most the product of both lengths: for a given
/// pattern it grows linearly with the text, whatever an attacker writes into the text, and it needs no memory.
///
/// ```
/// assert!(workload::glob::matches("etcd-*", "etcd-amd64"));
/// assert!(!workload::glob::matches("etcd-?", "etcd-amd64"));
/// ```
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to resume: after the last star, at the next possible end of what that star swallowed.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                p += 1;
                retry = Some((p, t));
                continue;
            }
            (Some(b'?'), Some(_)) => {
                p += 1;
                t = next_character(text, t);
                continue;
            }
            (Some(wanted), Some(found)) if wanted == found => {
                p += 1;
                t += 1;
                continue;
            }
            (None, None) => return true,
            // The text is used up and the pattern still wants a character: a longer star cannot give it one.
            (Some(_), None) => return false,
            (_, Some(_)) => {}
        }
        let Some((after_star, swallowed)) = retry else { return false };
        if swallowed >= text.len() {
            return false;
        }
        let swallowed = next_character(text, swallowed);
        retry = Some((after_star, swallowed));
        (p, t) = (after_star, swallowed);
    }
}

/// The index after the character that starts at `at`: `?` and `*` count characters, not bytes.
fn next_character(text: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while text.get(next).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {
        next += 1;
    }
    next
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn without_wildcards_only_the_same_text_matches() {
        assert!(matches("etcd", "etcd"));
        assert!(!matches("etcd", "etc"));
        assert!(!matches("etcd", "etcd3"));
        assert!(!matches("etcd", "Etcd"));
        assert!(matches("", ""));
        assert!(!matches("", "a"));
        assert!(!matches("a", ""));
    }

    #[test]
    fn a_star_takes_any_run_also_none() {
        for text in ["", "a", "abc", "a/b", "*"] {
            assert!(matches("*", text), "{text}");
            assert!(matches("***", text), "{text}");
        }
        assert!(matches("-bootstrap-expect*", "-bootstrap-expect=3"));
        assert!(matches("-bootstrap-expect*", "-bootstrap-expect"));
        assert!(matches("*yb-master", "/home/yugabyte/bin/yb-master"));
        assert!(!matches("*yb-master", "--tserver_master_addrs=yb-masters"));
        assert!(matches("a*b*c", "aXbXbXc"));
        assert!(!matches("a*b*c", "aXcXb"));
        assert!(matches("*ab", "aab"));
        assert!(matches("*aab*", "aaab"));
    }

    #[test]
    fn a_question_mark_takes_exactly_one_character() {
        assert!(matches("?", "a"));
        assert!(matches("?", "ü"));
        assert!(matches("a?c", "a語c"));
        assert!(!matches("?", ""));
        assert!(!matches("?", "ab"));
        assert!(!matches("??", "ü"));
        assert!(matches("*?", "a"));
        assert!(!matches("*?", ""));
        assert!(matches("?*?", "éé"));
        assert!(!matches("?*?", "é"));
    }

    #[test]
    fn hostile_patterns_and_texts_end_soon() {
        // With exponential backtracking neither of these would ever return.
        let stars = "*a".repeat(5_000) + "b";
        let text = "a".repeat(100_000);
        assert!(!matches(&stars, &text));
        assert!(matches(&"*".repeat(100_000), &text));
        assert!(!matches("*a*a*a*a*a*a*a*a*b", &"a".repeat(1_000_000)));
        assert!(matches("*b", &("a".repeat(1_000_000) + "b")));
    }
}
