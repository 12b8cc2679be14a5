//! YAML to a document, by the events of `granit-parser`.

use std::borrow::Cow;
use std::ops::Range;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span, StructureStyle, Tag};

use crate::build::{Builder, Fault, MAX_DEPTH};
use crate::scalar::Scalar;

/// Reads one document into the builder. `start` is where `text` stands in the whole text.
pub(crate) fn read(text: &str, start: usize, builder: &mut Builder) -> Result<(), Fault> {
    // A file may be several, joined by somebody; each brought its byte order mark.
    let (text, start) = match text.strip_prefix('\u{feff}') {
        Some(rest) => (rest, start + '\u{feff}'.len_utf8()),
        None => (text, start),
    };
    let mut options = granit_parser::options! { disallow_directives: true };
    options.set_emit_comments(false);
    let mut documents = 0;
    let mut tabs = text.contains('\t').then(Tabs::default);
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let at = error.marker().byte_offset().unwrap_or_default().min(text.len());
            fault(text, at, start, error.kind())
        })?;
        let at = start + span.start.byte_offset().unwrap_or_default();
        if let Some(tab) = tabs.as_mut().and_then(|tabs| tabs.before(text, &event, &span)) {
            return Err(Fault::new(start + tab, TAB));
        }
        match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(Fault::new(
                        at,
                        "kubectl ignores what stands behind `...`: begin a new document with `---`",
                    ));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                if builder.wants_key() && is_merge(&text, plain, tag.as_deref()) {
                    builder.merge_key();
                    continue;
                }
                let scalar = resolve(text, plain, tag.as_deref()).map_err(|message| Fault::new(at, message))?;
                if builder.wants_key() {
                    let key = scalar.into_key().map_err(|message| Fault::new(at, message))?;
                    builder.anchor_key(at, anchor, &key)?;
                    builder.key(at, key);
                } else {
                    builder.scalar(at, scalar, anchor)?;
                }
            }
            Event::MappingStart(_, anchor, _) => builder.start_mapping(at, anchor)?,
            Event::SequenceStart(_, anchor, _) => builder.start_list(at, anchor)?,
            Event::MappingEnd | Event::SequenceEnd => builder.end(at)?,
            Event::Alias(anchor) => builder.alias(at, anchor)?,
            _ => {}
        }
    }
    Ok(())
}

const TAB: &str = "a tab is used as indentation: YAML wants spaces";

/// Finds the tabs that kubectl takes for indentation and refuses, where YAML 1.2 does not mind them: outside brackets, in
/// the white space that begins a line between two nodes. Behind a plain scalar libyaml minds a tab only if it stands
/// further left than the scalar's mapping and one more (`yaml_parser_scan_plain_scalar` in scannerc.go).
#[derive(Default)]
struct Tabs {
    /// The columns of the open block collections.
    columns: Vec<usize>,
    flow: usize,
    seen: usize,
    /// From this column on the white space behind the last node may hold tabs.
    tolerated: Option<usize>,
}

impl Tabs {
    /// The byte of a tab that kubectl would refuse before this event.
    fn before(&mut self, text: &str, event: &Event, span: &Span) -> Option<usize> {
        let range = span.byte_range().unwrap_or_default();
        let outside = self.flow == 0;
        let gap = match event {
            Event::StreamEnd => self.seen..text.len(),
            _ => self.seen..range.start,
        };
        let mut plain = false;
        match event {
            Event::MappingStart(style, ..) | Event::SequenceStart(style, ..) => {
                if !outside || *style == StructureStyle::Flow {
                    self.flow += 1;
                } else {
                    self.columns.push(span.start.col());
                }
            }
            Event::MappingEnd | Event::SequenceEnd if outside => {
                self.columns.pop();
                return None;
            }
            Event::MappingEnd | Event::SequenceEnd => {
                self.flow -= 1;
                self.seen = self.seen.max(range.end);
                self.tolerated = None;
                return None;
            }
            Event::Scalar(_, style, ..) => plain = *style == ScalarStyle::Plain && !range.is_empty(),
            Event::Alias(_) | Event::StreamEnd => {}
            _ => return None,
        }
        let tolerated = self.tolerated;
        self.seen = self.seen.max(range.end);
        self.tolerated = plain.then(|| self.columns.last().map_or(0, |column| column + 1));
        if outside && gap.start < gap.end { Self::within(text, gap, tolerated) } else { None }
    }

    fn within(text: &str, gap: Range<usize>, tolerated: Option<usize>) -> Option<usize> {
        let mut line = if gap.start == 0 { 0 } else { gap.start + text[gap.clone()].find('\n')? + 1 };
        while line < gap.end {
            let blank = text[line..gap.end].bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            // The node's own line is never part of a scalar's white space.
            let tolerated = tolerated.filter(|_| line + blank < gap.end);
            if let Some(tab) =
                text[line..line + blank].find('\t').filter(|tab| tolerated.is_none_or(|from| *tab < from))
            {
                return Some(line + tab);
            }
            line += text[line..gap.end].find('\n')? + 1;
        }
        None
    }
}

fn resolve(text: Cow<str>, plain: bool, tag: Option<&Tag>) -> Result<Scalar, String> {
    match tag {
        Some(tag) => Scalar::tagged(&format!("{}{}", tag.handle(), tag.suffix()), &text),
        None if plain => Ok(Scalar::plain(&text)),
        None => Ok(Scalar::Text(text.into_owned())),
    }
}

fn is_merge(text: &str, plain: bool, tag: Option<&Tag>) -> bool {
    text == "<<"
        && match tag {
            Some(tag) => tag.handle() == "tag:yaml.org,2002:" && tag.suffix() == "merge",
            None => plain,
        }
}

/// Says what to do, where the parser says what it missed.
fn fault(text: &str, at: usize, start: usize, kind: &ErrorKind) -> Fault {
    let tab_in_line = |at: usize| {
        let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let blank = text[line..].find(|c: char| !matches!(c, ' ' | '\t')).unwrap_or(text.len() - line);
        text[line..line + blank].find('\t').map(|tab| line + tab)
    };
    // The parser may notice it at the end of the line before.
    let tab_below = || text[at..].find('\n').and_then(|end| tab_in_line(at + end + 1));
    let here = |message: String| Fault::new(start + at, message);
    match kind {
        ErrorKind::RecursionLimitExceeded => {
            here(format!("nested deeper than {MAX_DEPTH} levels: nothing in Kubernetes needs that"))
        }
        ErrorKind::DirectiveDisallowed => here(
            "kubectl does not read files with a directive (a line that begins with `%`): remove the line".to_owned(),
        ),
        ErrorKind::UnknownAnchor => {
            let name: String = text[at..].chars().take_while(|c| !c.is_whitespace() && !",[]{}".contains(*c)).collect();
            here(format!("nothing above in this document has the anchor that `{name}` names"))
        }
        ErrorKind::InvalidQuotedScalarIndent => here(
            "a text in quotes goes on here without indentation: close its quote above, or indent this line".to_owned(),
        ),
        ErrorKind::UndeclaredTagHandle => {
            here("the tag's handle is not declared: kubectl cannot read it, remove the tag".to_owned())
        }
        _ if tab_in_line(at).is_some() => Fault::new(start + tab_in_line(at).unwrap_or(at), TAB),
        _ if kind.to_string().contains("a tab") && tab_below().is_some() => {
            Fault::new(start + tab_below().unwrap_or(at), TAB)
        }
        _ => here(format!("not YAML: {kind}")),
    }
}
