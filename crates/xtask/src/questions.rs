//! The `questions-ui.yml` of a policy: its own questions are written by hand, those on the settings that all policies share are
//! added here, so that they stand in one file, beside what reads them.

use anyhow::{Result, bail};

/// The questions on the shared settings.
const SHARED: &str = include_str!("../../policy/questions-ui.yml");

/// The line below which a policy's file is written by this.
const MARK: &str = "# shared";

/// The one shared setting that is not for all: a policy that has nothing to change refuses it.
const MUTATE: &str = "- variable: mutate\n";

/// The file as it must be, from what it is: its own questions, then the shared ones.
pub(crate) fn complete(present: &str, mutates: bool) -> Result<String> {
    let marks: Vec<usize> = present.match_indices(MARK).map(|(at, _)| at).collect();
    let is_line = |at: usize| {
        let rest = present.get(at + MARK.len()..).unwrap_or_default();
        (at == 0 || present.as_bytes().get(at - 1) == Some(&b'\n')) && (rest.is_empty() || rest.starts_with('\n'))
    };
    let [at] = marks[..] else {
        bail!("must have the line `{MARK}` once: the questions on the settings that all policies share go below it");
    };
    if !is_line(at) {
        bail!("`{MARK}` must be a line of its own");
    }
    let mut complete = present.get(..at).unwrap_or_default().to_owned();
    complete.push_str(MARK);
    complete.push('\n');
    let (_, shared) = SHARED.split_once("questions:\n").unwrap_or_default();
    for question in questions(shared).filter(|question| mutates || !question.starts_with(MUTATE)) {
        complete.push_str(question);
    }
    Ok(complete)
}

/// The texts of the questions of a list, without what they are parts of.
fn questions(list: &str) -> impl Iterator<Item = &str> {
    let starts: Vec<usize> = list
        .match_indices("- variable: ")
        .map(|(at, _)| at)
        .filter(|at| *at == 0 || list[..*at].ends_with('\n'))
        .collect();
    let ends: Vec<usize> = starts.iter().copied().skip(1).chain([list.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &list[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "questions:\n- variable: max\n  type: int\n";

    #[test]
    fn the_shared_questions_follow_the_mark_whatever_stood_there() {
        let complete = |present: &str| complete(present, true).unwrap();
        let wanted = format!("{OWN}{MARK}\n{}", SHARED.split_once("questions:\n").unwrap().1);
        assert_eq!(complete(&format!("{OWN}{MARK}")), wanted);
        assert_eq!(complete(&format!("{OWN}{MARK}\n- variable: old\n")), wanted);
        assert_eq!(complete(&wanted), wanted);
    }

    #[test]
    fn a_policy_that_changes_nothing_is_not_asked_whether_it_may() {
        let present = format!("{OWN}{MARK}");
        let (with, without) = (complete(&present, true).unwrap(), complete(&present, false).unwrap());
        assert!(with.contains(MUTATE) && !without.contains(MUTATE));
        let count = |text: &str| text.lines().filter(|line| line.starts_with("- variable: ")).count();
        assert_eq!(count(&with), count(&without) + 1);
        assert!(without.ends_with(SHARED.rsplit_once("- variable: systems").unwrap().1));
    }

    #[test]
    fn without_the_mark_nothing_is_written() {
        for present in
            [OWN.to_owned(), format!("{OWN}{MARK}\n{MARK}\n"), format!("{OWN}  {MARK}\n"), format!("{OWN}{MARK} x\n")]
        {
            let told = complete(&present, true).unwrap_err().to_string();
            assert!(told.contains("`# shared`"), "{told}");
        }
    }
}
