//! Reads CHANGELOG.md: when a version was released, and what changed in it.
//!
//! A section is headed `## 0.2.0 (2027-01-31)`, or `## 0.2.0 (not released yet; begun 2026-12-01)` until then. Each entry is an
//! item that may begin with its kind: `- Fixed: ...`.

use anyhow::{Context, Result, bail};

/// The kinds that Artifact Hub knows, as an entry begins with them.
const KINDS: [&str; 6] = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];

/// What stands between a version and the day on which its section was begun.
const NOT_RELEASED: &str = "not released yet; begun ";

/// What the file says of a version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// The day of the release; before it, the day on which the section was begun: `2026-12-01`.
    pub(crate) date: String,
    /// Whether the version is released.
    pub(crate) released: bool,
    /// What changed, as the file has it.
    pub(crate) changes: Vec<Change>,
}

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// In small letters, if the entry begins with one.
    pub(crate) kind: Option<String>,
    /// What is different, as a sentence.
    pub(crate) text: String,
}

/// The section of the version.
pub(crate) fn section(text: &str, version: &str) -> Result<Section> {
    let mut sections =
        text.split("\n## ").skip(1).filter_map(|section| section.strip_prefix(version)?.strip_prefix(' '));
    let form = format!("`## {version} (YYYY-MM-DD)`, or `## {version} ({NOT_RELEASED}YYYY-MM-DD)`");
    let section = sections.next().with_context(|| format!("CHANGELOG.md has no section {form}"))?;
    if sections.next().is_some() {
        bail!("CHANGELOG.md has two sections of {version}");
    }
    let (head, body) = section.split_once('\n').unwrap_or((section, ""));
    let told = head.trim().strip_prefix('(').and_then(|told| told.strip_suffix(')')).unwrap_or_default();
    let (date, released) = told.strip_prefix(NOT_RELEASED).map_or((told, true), |date| (date, false));
    if !is_date(date) {
        bail!("CHANGELOG.md: `## {version} {head}` must be {form}");
    }
    Ok(Section { date: date.to_owned(), released, changes: changes(body) })
}

fn changes(body: &str) -> Vec<Change> {
    let mut entries: Vec<String> = Vec::new();
    for line in body.lines() {
        if let Some(first) = line.strip_prefix("- ") {
            entries.push(first.trim().to_owned());
        } else if let (Some(entry), true) = (entries.last_mut(), line.starts_with("  ") && !line.trim().is_empty()) {
            entry.push(' ');
            entry.push_str(line.trim());
        }
    }
    entries.into_iter().map(|entry| change(&entry)).collect()
}

fn change(entry: &str) -> Change {
    let kind = |first: &&str| KINDS.contains(first);
    match entry.split_once(": ").filter(|(first, _)| kind(first)) {
        Some((kind, text)) => {
            let mut letters = text.chars();
            let first = letters.next().into_iter().flat_map(char::to_uppercase);
            Change { kind: Some(kind.to_lowercase()), text: first.chain(letters).collect() }
        }
        None => Change { kind: None, text: entry.to_owned() },
    }
}

/// Whether this is a day, as ISO 8601 writes it.
fn is_date(text: &str) -> bool {
    let numbers: Vec<Option<u32>> = text.split('-').map(|part| part.parse().ok()).collect();
    let [Some(year), Some(month), Some(day)] = numbers[..] else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    text.len() == 10 && (1..=12).contains(&month) && (1..=days).contains(&day) && !text.contains('+')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Changelog\n\n## 0.2.0 (not released yet; begun 2026-12-01)\n\n- Fixed: a, which\n  was b.\n- c: d\n\n\
                        ## 0.1.0 (2026-11-30)\n\nThe first.\n\n- Added: e\n";

    #[test]
    fn a_section_has_its_day_and_its_changes() {
        let change = |kind: Option<&str>, text: &str| Change { kind: kind.map(str::to_owned), text: text.to_owned() };
        assert_eq!(
            section(TEXT, "0.2.0").unwrap(),
            Section {
                date: "2026-12-01".to_owned(),
                released: false,
                changes: vec![change(Some("fixed"), "A, which was b."), change(None, "c: d")],
            }
        );
        let first = section(TEXT, "0.1.0").unwrap();
        assert_eq!((first.date.as_str(), first.released), ("2026-11-30", true));
        assert_eq!(first.changes, [change(Some("added"), "E")]);
    }

    #[test]
    fn what_names_no_day_is_refused() {
        let refused = |text: &str, version: &str| section(text, version).unwrap_err().to_string();
        assert!(refused(TEXT, "0.3.0").starts_with("CHANGELOG.md has no section `## 0.3.0 (YYYY-MM-DD)`"));
        assert!(refused(TEXT, "0.1").starts_with("CHANGELOG.md has no section"), "another version begins so");
        assert_eq!(refused(&TEXT.replace("0.2.0", "0.1.0"), "0.1.0"), "CHANGELOG.md has two sections of 0.1.0");
        for head in
            ["(2026-02-29)", "(2026-13-01)", "(2026-1-01)", "(2026-11-00)", "(soon)", "2026-11-30", "(2026-11-3+)"]
        {
            let told = refused(&TEXT.replace("(2026-11-30)", head), "0.1.0");
            assert!(told.starts_with(&format!("CHANGELOG.md: `## 0.1.0 {head}` must be")), "{told}");
        }
        assert!(section(&TEXT.replace("2026-11-30", "2028-02-29"), "0.1.0").is_ok());
    }
}
