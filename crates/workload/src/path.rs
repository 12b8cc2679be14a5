//! A place inside an object, written as Kubernetes writes it or as a JSON Pointer.

use std::fmt::{self, Write as _};

/// One step from a value to a value inside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// A field of a Kubernetes type: `.spec`.
    Field(String),
    /// A key of a map whose keys users choose, such as a label: `[app.kubernetes.io/name]`.
    Key(String),
    /// An item of a list, from 0: `[0]`.
    Index(usize),
}

/// A place inside an object.
///
/// [`fmt::Display`] writes it as the API server does in its own errors (`spec.containers[0].image`,
/// see `Path.String` in `k8s.io/apimachinery/pkg/util/validation/field`); [`Path::pointer`] writes it as a
/// JSON Pointer (RFC 6901), which is what machines read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Vec<Segment>);

impl Path {
    /// The object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of fields in `dotted`, such as `spec.template.spec`. Empty text is the object itself.
    pub fn fields(dotted: &str) -> Self {
        Self(
            dotted.split('.').filter(|field| !field.is_empty()).map(|field| Segment::Field(field.to_owned())).collect(),
        )
    }

    /// This place's field `name`.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.with(Segment::Field(name.to_owned()))
    }

    /// This map's entry `key`.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    /// This list's item `index`, from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// `other`, read as starting at this place.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// The steps from the object to this place.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether this is the object itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// This place as a JSON Pointer: `/spec/containers/0/image`; empty for the object itself.
    pub fn pointer(&self) -> String {
        let mut pointer = String::new();
        for segment in &self.0 {
            pointer.push('/');
            match segment {
                Segment::Field(name) | Segment::Key(name) => {
                    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                }
                // Writing to a String cannot fail.
                Segment::Index(index) => drop(write!(pointer, "{index}")),
            }
        }
        pointer
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("<object>");
        }
        for (position, segment) in self.0.iter().enumerate() {
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
        assert_eq!(Path::fields("spec").join(&Path::fields("a").index(1)), Path::fields("spec.a").index(1));
    }
}
