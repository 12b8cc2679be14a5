//! Bytes that nobody meant to be a module, and text that nobody meant to be metadata: an answer, never a panic.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{MINIMAL, from_yaml, guest};
use crate::{Metadata, SECTION, annotate, read};

/// Whatever is said of the bytes, it must hold together.
fn check_module(bytes: &[u8]) {
    let metadata = from_yaml(MINIMAL).unwrap();
    let _ = read(bytes);
    if let Ok(annotated) = annotate(bytes, &metadata) {
        assert_eq!(read(&annotated), Ok(Some(metadata.clone())));
        assert_eq!(annotate(&annotated, &metadata).as_ref(), Ok(&annotated));
    }
}

/// Any JSON, which is YAML too, with the keys of the format among others.
fn any_metadata() -> impl Strategy<Value = serde_json::Value> {
    let word = prop::sample::select(vec![
        "rules",
        "mutating",
        "annotations",
        "apiGroups",
        "resources",
        "operations",
        "contextAwareResources",
        "kind",
        "*",
        "*/*",
        "",
        "v1",
        "\u{0}~/",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        word.clone().prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_module(&bytes);
        check_module(&[b"\0asm\x01\0\0\0", bytes.as_slice()].concat());
        check_module(&[guest(), bytes].concat());
    }

    #[test]
    fn a_policy_with_changed_bytes_gets_an_answer(at in any::<prop::sample::Index>(), cut in 0_usize..8, new in prop::collection::vec(any::<u8>(), 0..8)) {
        let mut bytes = annotate(&guest(), &from_yaml(MINIMAL).unwrap()).unwrap();
        let at = at.index(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, new);
        check_module(&bytes);
    }

    #[test]
    fn only_the_metadata_sections_go(sections in prop::collection::vec((any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..90)), 0..6)) {
        let (mut before, mut kept) = ([vec![], vec![]], [vec![], vec![]]);
        for (ours, ahead, content) in sections {
            let name = if ours { SECTION } else { "other" };
            let mut section = vec![0, u8::try_from(1 + name.len() + content.len()).unwrap(), u8::try_from(name.len()).unwrap()];
            section.extend(name.as_bytes());
            section.extend(content);
            before[usize::from(ahead)].extend(section.clone());
            if !ours {
                kept[usize::from(ahead)].extend(section);
            }
        }
        let around = |[behind, ahead]: &[Vec<u8>; 2]| [&guest()[..8], ahead, &guest()[8..], behind].concat();
        let metadata = from_yaml(MINIMAL).unwrap();
        let annotated = annotate(&around(&before), &metadata).unwrap();
        prop_assert!(annotated.starts_with(&around(&kept)));
        prop_assert_eq!(annotated, annotate(&around(&kept), &metadata).unwrap());
    }

    #[test]
    fn any_metadata_gets_an_answer(value in any_metadata()) {
        check_metadata(&value.to_string());
    }

    #[test]
    fn any_text_gets_an_answer(text in "(rules|mutating|[-:{}\\[\\]&*!|>'\" \n\t]|.){0,60}") {
        check_metadata(&text);
        check_metadata(&format!("{MINIMAL}{text}"));
    }
}

/// What is accepted must be fit to be written.
fn check_metadata(text: &str) {
    if let Ok(metadata) = Metadata::from_yaml("m", text.as_bytes(), &BTreeMap::new()) {
        assert_eq!(metadata.validate(), Ok(()), "{text}");
    }
}
