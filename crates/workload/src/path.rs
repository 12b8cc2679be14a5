//! A place inside an object, written as Kubernetes writes it or as a JSON Pointer.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

/// One step from a value to a value inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// A field of a Kubernetes type: `.spec`.
    Field(&'static str),
    /// A key of a map whose keys users choose, such as a label: `[app.kubernetes.io/name]`.
    Key(&'static str),
    /// An item of a list, from 0: `[0]`.
    Index(usize),
}

/// A place inside an object.
///
/// [`fmt::Display`] writes it as the API server does in its own errors (`spec.containers[0].image`,
/// see `Path.String` in `k8s.io/apimachinery/pkg/util/validation/field`); [`Path::pointer`] writes it as a
/// JSON Pointer (RFC 6901), which is what machines read.
///
/// Paths share their beginnings, so that going one step further costs one small allocation however deep it is; and that
/// one is never given back. A guest judges one object and forgets all of its memory, while counting who still needs a
/// path would be a tenth of a module, and a fifth of its time. A process that lives longer must not read objects without end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path(Option<&'static Step>);

#[derive(Debug)]
struct Step {
    before: Path,
    segment: Segment,
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.segments() == other.segments()
    }
}

impl Eq for Path {}

impl PartialOrd for Path {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Path {
    fn cmp(&self, other: &Self) -> Ordering {
        self.segments().cmp(&other.segments())
    }
}

impl Hash for Path {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.segments().hash(state);
    }
}

impl Path {
    /// The object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of fields in `dotted`, such as `spec.template.spec`. Empty text is the object itself.
    #[inline(never)]
    pub fn fields(dotted: &'static str) -> Self {
        dotted.split('.').filter(|field| !field.is_empty()).fold(Self::root(), Path::field)
    }

    /// The path of fields in a text that is not known beforehand, such as that of a setting.
    pub fn parse(dotted: &str) -> Self {
        Self::fields(String::leak(dotted.to_owned()))
    }

    /// This place's field `name`.
    #[must_use]
    pub fn field(self, name: &'static str) -> Self {
        self.with(Segment::Field(name))
    }

    /// This map's entry `key`.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.with(Segment::Key(String::leak(key.to_owned())))
    }

    /// This list's item `index`, from 0.
    #[must_use]
    pub fn index(self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// `other`, read as starting at this place.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        other.segments().into_iter().fold(self, Self::with)
    }

    /// The steps from the object to this place.
    #[inline(never)]
    pub fn segments(self) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut path = self;
        while let Some(step) = path.0 {
            segments.push(step.segment);
            path = step.before;
        }
        segments.reverse();
        segments
    }

    /// The last step, and the place that it starts from; `None` for the object itself.
    pub fn split_last(self) -> Option<(Self, Segment)> {
        self.0.map(|step| (step.before, step.segment))
    }

    /// Whether this is `other` or a place inside it.
    pub fn is_within(self, other: Self) -> bool {
        self.segments().starts_with(&other.segments())
    }

    /// Whether this is the object itself.
    pub fn is_root(self) -> bool {
        self.0.is_none()
    }

    /// This place as a JSON Pointer: `/spec/containers/0/image`; empty for the object itself.
    pub fn pointer(self) -> String {
        let mut pointer = String::new();
        for segment in self.segments() {
            pointer.push('/');
            match segment {
                Segment::Field(name) | Segment::Key(name) => {
                    for character in name.chars() {
                        match character {
                            '~' => pointer.push_str("~0"),
                            '/' => pointer.push_str("~1"),
                            other => pointer.push(other),
                        }
                    }
                }
                // Writing to a String cannot fail.
                Segment::Index(index) => drop(write!(pointer, "{index}")),
            }
        }
        pointer
    }

    #[inline(never)]
    pub(crate) fn with(self, segment: Segment) -> Self {
        Self(Some(Box::leak(Box::new(Step { before: self, segment }))))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str("<object>");
        }
        for (position, segment) in self.segments().into_iter().enumerate() {
            match segment {
                Segment::Field(name) if position == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Key(key) => write!(f, "[{key}]")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_the_api_server_writes_it() {
        let path = Path::fields("spec.template.spec").field("containers").index(2).field("image");
        assert_eq!(path.to_string(), "spec.template.spec.containers[2].image");
        assert_eq!(Path::fields("metadata.labels").key("a.b/c").to_string(), "metadata.labels[a.b/c]");
        assert_eq!(Path::root().to_string(), "<object>");
    }

    #[test]
    fn a_pointer_escapes_what_rfc_6901_escapes() {
        assert_eq!(Path::fields("metadata.labels").key("a/b~c").pointer(), "/metadata/labels/a~1b~0c");
        assert_eq!(Path::root().pointer(), "");
        assert_eq!(Path::fields("a").index(0).pointer(), "/a/0");
    }

    #[test]
    fn joins_in_order() {
        assert_eq!(Path::fields("spec").join(Path::fields("a").index(1)), Path::fields("spec.a").index(1));
    }
}
