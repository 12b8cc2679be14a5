//! Recognises what is no manifest yet but a template of one.

/// What is said at the first line that only a template can have.
pub(crate) const ADVICE: &str = "this looks like a Helm template, not like a manifest: render it first (`helm template CHART`) and check the result";

/// The byte of the first `{{` that stands where YAML wants a key or a value. One within a text (as alerting rules and
/// config maps have them) does not count.
pub(crate) fn first(text: &str) -> Option<usize> {
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let mut from = 0;
        while let Some(found) = line[from..].find("{{") {
            let at = from + found;
            if begins_a_node(&line[..at]) && line[at..].contains("}}") {
                return Some(line_start + at);
            }
            from = at + 2;
        }
        line_start += line.len();
    }
    None
}

fn begins_a_node(before: &str) -> bool {
    let before = before.trim_end();
    before.is_empty() || before == "-" || before.ends_with(':') || before.ends_with(" -") || before.ends_with("}}")
}
