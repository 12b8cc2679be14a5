//! Answers that were given before, up to a number of bytes.
//!
//! Ten sets of one namespace ask for the same list ten times; it is selected and written once. The oldest answer goes first: checks walk
//! through the namespaces one after the other, so that an old answer is one nobody asks for again.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

/// What makes two list calls the same: the host keeps one watch for each of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) namespace: Option<String>,
    pub(crate) label_selector: Option<String>,
    pub(crate) field_selector: Option<String>,
    pub(crate) field_masks: Option<BTreeSet<String>>,
}

impl Key {
    /// Its share of the cache's bytes, in part because a policy may make up keys as long as it likes.
    fn weight(&self) -> usize {
        let optional = [&self.namespace, &self.label_selector, &self.field_selector];
        let texts =
            self.api_version.len() + self.kind.len() + optional.into_iter().flatten().map(String::len).sum::<usize>();
        let masks = self.field_masks.iter().flatten().map(|mask| mask.len() + size_of::<String>()).sum::<usize>();
        size_of::<Self>() + texts + masks
    }
}

#[derive(Debug)]
pub(crate) struct Cache {
    limit: usize,
    entries: RwLock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    answers: HashMap<Arc<Key>, Arc<[u8]>>,
    /// From the oldest to the newest.
    order: VecDeque<Arc<Key>>,
    bytes: usize,
}

impl Cache {
    /// A cache that holds `limit` bytes, or one answer if that is larger.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, entries: RwLock::default() }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        // A thread that panicked left whole entries behind: each is put in at once.
        self.entries.read().unwrap_or_else(PoisonError::into_inner).answers.get(key).cloned()
    }

    pub(crate) fn put(&self, key: Key, answer: Arc<[u8]>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let key = Arc::new(key);
        let added = key.weight() + answer.len();
        if entries.answers.insert(Arc::clone(&key), answer).is_some() {
            // Another thread was faster with the same answer.
            return;
        }
        entries.order.push_back(key);
        entries.bytes += added;
        while entries.bytes > self.limit && entries.order.len() > 1 {
            let Some(oldest) = entries.order.pop_front() else { break };
            if let Some(answer) = entries.answers.remove(&oldest) {
                entries.bytes -= oldest.weight() + answer.len();
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.entries.read().unwrap().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str) -> Key {
        Key {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: Some(namespace.to_owned()),
            label_selector: None,
            field_selector: None,
            field_masks: Some(BTreeSet::from(["spec".to_owned()])),
        }
    }

    #[test]
    fn the_oldest_answers_leave_when_the_bytes_are_used_up() {
        let entry = key("a").weight() + 100;
        let cache = Cache::new(2 * entry);
        for namespace in ["a", "b", "c"] {
            cache.put(key(namespace), vec![0; 100].into());
        }
        assert_eq!(cache.get(&key("a")), None);
        assert!(cache.get(&key("b")).is_some() && cache.get(&key("c")).is_some());
        assert_eq!(cache.bytes(), 2 * entry);
        cache.put(key("c"), vec![0; 100].into());
        assert_eq!(cache.bytes(), 2 * entry);
    }

    #[test]
    fn one_answer_stays_however_large() {
        let cache = Cache::new(10);
        cache.put(key("a"), vec![0; 100].into());
        assert!(cache.get(&key("a")).is_some());
        cache.put(key("b"), vec![0; 100].into());
        assert_eq!(cache.get(&key("a")), None);
        assert!(cache.get(&key("b")).is_some());
        assert_eq!(cache.bytes(), key("b").weight() + 100);
    }
}
