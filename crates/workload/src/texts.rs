//! Small sets and maps of texts, for guests.
//!
//! A module has a size to keep. Every type that is put into a `BTreeMap`, a `BTreeSet` or a sort brings kilobytes of
//! code of its own; labels and their values are few, and these two serve for all of them.

use serde_json::{Map, Value};

/// `parts`, with `separator` between. The standard library's `join` and `concat` do so in a kilobyte each.
pub fn join<T: AsRef<str>>(parts: &[T], separator: &str) -> String {
    let mut joined = String::new();
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            joined.push_str(separator);
        }
        joined.push_str(part.as_ref());
    }
    joined
}

/// Texts, each once, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Texts(Vec<String>);

impl Texts {
    /// The texts of `all`.
    pub fn new(all: Vec<String>) -> Self {
        // JSON objects keep their keys in order, and every module has the code for them.
        // Not `collect`, which sorts first.
        let mut ordered = Map::new();
        for text in all {
            ordered.insert(text, Value::Null);
        }
        Self(ordered.into_iter().map(|(text, _)| text).collect())
    }

    /// One text.
    pub fn one(text: &str) -> Self {
        Self(vec![text.to_owned()])
    }

    /// Whether `text` is one of them.
    pub fn contains(&self, text: &str) -> bool {
        self.0.binary_search_by(|own| own.as_str().cmp(text)).is_ok()
    }

    /// The texts, in order.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// The texts, in order, one after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, String> {
        self.0.iter()
    }

    /// The first of them.
    pub fn first(&self) -> Option<&String> {
        self.0.first()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Texts {
    type Item = &'a String;
    type IntoIter = std::slice::Iter<'a, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A text for each of some keys, such as labels. Looking one up takes as long as there are keys, which are few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextMap(Vec<(String, String)>);

impl TextMap {
    /// The text of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, text)| text.as_str())
    }

    /// Gives `key` this text, in place of the one that it has.
    pub fn insert(&mut self, key: &str, text: String) {
        match self.0.iter_mut().find(|(own, _)| own == key) {
            Some((_, old)) => *old = text,
            None => self.0.push((key.to_owned(), text)),
        }
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(own, _)| own != key);
    }

    /// Keys and texts, in the order of the object that they come from.
    pub fn iter(&self) -> std::slice::Iter<'_, (String, String)> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a TextMap {
    type Item = &'a (String, String);
    type IntoIter = std::slice::Iter<'a, (String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<(String, String)> for TextMap {
    /// Keys must differ, as those of a JSON object do.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_there_once_and_in_order() {
        let texts = Texts::new(["b", "a", "b"].map(str::to_owned).to_vec());
        assert_eq!(texts.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(texts.contains("a") && !texts.contains("c") && !texts.contains(""));
        assert_eq!((texts.len(), texts.first().map(String::as_str), texts.is_empty()), (2, Some("a"), false));
        assert!(Texts::default().is_empty() && Texts::one("x").contains("x"));
    }

    #[test]
    fn a_key_has_one_text() {
        let mut map = TextMap::default();
        map.insert("a", "1".to_owned());
        map.insert("b", "2".to_owned());
        map.insert("a", "3".to_owned());
        assert_eq!((map.get("a"), map.get("b"), map.get("c")), (Some("3"), Some("2"), None));
        map.remove("a");
        assert_eq!((map.get("a"), map.is_empty(), map.iter().count()), (None, false, 1));
    }
}
