//! Whole modules: what is written, what is left alone, what is refused.

use std::collections::BTreeMap;

use super::{MINIMAL, from_yaml, guest};
use crate::{Error, Metadata, ProtocolVersion, SECTION, annotate, read};

/// A custom section written out by hand, with the length padded to five bytes, as some tools leave it.
fn padded_section(name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::try_from(name.len()).unwrap()];
    body.extend(name.as_bytes());
    body.extend(content);
    let length = u32::try_from(body.len()).unwrap();
    let mut section = vec![0];
    section.extend((0..5).map(|i| {
        let bits = u8::try_from(length >> (7 * i) & 0x7f).unwrap();
        if i < 4 { bits | 0x80 } else { bits }
    }));
    section.extend(body);
    section
}

fn metadata() -> Metadata {
    from_yaml(MINIMAL).unwrap()
}

#[test]
fn the_section_is_written_byte_for_byte_as_the_format_says() {
    let metadata = from_yaml(
        r#"
minimumKubewardenVersion: 1.36.0
hostCapabilities: [kubernetes/list_resources_by_namespace, kubernetes/get_resource]
contextAwareResources:
  - { apiVersion: policy/v1, kind: PodDisruptionBudget }
  - { kind: StatefulSet, apiVersion: apps/v1 }
mutating: true
annotations: { z: "ä\n", io.kubewarden.policy.severity: high }
rules:
  - { operations: [UPDATE, CREATE], resources: [pods, "*/scale"], apiVersions: [v1], apiGroups: [""] }
"#,
    )
    .unwrap();
    let json = concat!(
        r#"{"protocolVersion":"v1","#,
        r#""rules":[{"apiGroups":[""],"apiVersions":["v1"],"resources":["pods","*/scale"],"operations":["UPDATE","CREATE"]}],"#,
        r#""annotations":{"io.kubewarden.policy.severity":"high","z":"ä\n"},"#,
        r#""mutating":true,"backgroundAudit":true,"executionMode":"kubewarden-wapc","policyType":"kubernetes","#,
        r#""contextAwareResources":[{"apiVersion":"apps/v1","kind":"StatefulSet"},"#,
        r#"{"apiVersion":"policy/v1","kind":"PodDisruptionBudget"}],"#,
        r#""hostCapabilities":["kubernetes/get_resource","kubernetes/list_resources_by_namespace"],"#,
        r#""minimumKubewardenVersion":"1.36.0"}"#,
    );
    let mut expected = guest();
    // Custom section; 578 = 0b100_1000010 bytes behind the length; a name of 22.
    expected.extend(b"\x00\xc2\x04\x16io.kubewarden.metadata");
    expected.extend(json.as_bytes());
    assert_eq!(json.len(), 578 - 23);
    assert_eq!(annotate(&guest(), &metadata).unwrap(), expected);
}

#[test]
fn absent_options_are_left_out() {
    let annotated = annotate(&guest(), &metadata()).unwrap();
    let json = concat!(
        r#"{"protocolVersion":"v1","rules":[],"mutating":false,"backgroundAudit":true,"#,
        r#""executionMode":"kubewarden-wapc","policyType":"kubernetes","contextAwareResources":[]}"#
    );
    assert!(annotated.ends_with(json.as_bytes()), "{}", String::from_utf8_lossy(&annotated));
}

#[test]
fn the_length_is_right_at_every_edge() {
    let padded = |padding: usize| {
        let annotations = BTreeMap::from([("a".to_owned(), "x".repeat(padding))]);
        Metadata { annotations: Some(annotations), ..metadata() }
    };
    let fixed = annotate(&guest(), &padded(0)).unwrap().len() - guest().len() - 3;
    for (length, lead) in [
        (16_383, &[0x00, 0xff, 0x7f, 0x16][..]),
        (16_384, &[0x00, 0x80, 0x80, 0x01, 0x16]),
        (2_097_152, &[0x00, 0x80, 0x80, 0x80, 0x01, 0x16]),
    ] {
        let metadata = padded(length - fixed);
        let annotated = annotate(&guest(), &metadata).unwrap();
        assert!(annotated[guest().len()..].starts_with(lead), "{length}");
        assert_eq!(read(&annotated), Ok(Some(metadata)), "{length}");
    }
}

#[test]
fn what_was_written_is_read_back() {
    let annotated = annotate(&guest(), &metadata()).unwrap();
    assert_eq!(read(&annotated), Ok(Some(metadata())));
    assert_eq!(read(&guest()), Ok(None));
}

#[test]
fn annotating_twice_is_annotating_once() {
    let once = annotate(&guest(), &metadata()).unwrap();
    assert_eq!(annotate(&once, &metadata()).unwrap(), once);
}

#[test]
fn all_older_sections_go_and_nothing_else() {
    let (header, sections) = (&guest()[..8], &guest()[8..]);
    let name_like = padded_section("io.kubewarden.metadata2", b"stays");
    let other = padded_section("producers", b"\0");
    let old = padded_section(SECTION, b"{\"old\": true}");
    let empty = padded_section(SECTION, b"");

    let before = [header, &old, &other, sections, &empty, &name_like, &old, &old].concat();
    let annotated = annotate(&before, &metadata()).unwrap();
    let bare = [header, &other, sections, &name_like].concat();
    assert_eq!(annotated, annotate(&bare, &metadata()).unwrap());
    assert!(annotated.starts_with(&bare));
    assert_eq!(read(&annotated), Ok(Some(metadata())));
}

#[test]
fn the_first_of_two_sections_is_read_as_the_host_does() {
    let first = br#"{"rules":[],"mutating":true}"#;
    let second = br#"{"rules":[],"mutating":false}"#;
    let module = [guest(), padded_section(SECTION, first), padded_section(SECTION, second)].concat();
    assert!(read(&module).unwrap().unwrap().mutating);
}

#[test]
fn a_section_of_another_tool_may_know_more_than_we_do() {
    let section = br#"{"contextAware":true,"future":{"a":[1]},"rules":[{"apiGroups":[],"apiVersions":[""],"resources":["pods","*"],
        "operations":["*","CREATE"],"scope":"*"}],"mutating":false,"annotations":null}"#;
    let read = read(&[guest(), padded_section(SECTION, section)].concat()).unwrap().unwrap();
    assert_eq!(read.rules[0].resources, ["pods", "*"]);
    assert_eq!(read.protocol_version, None);
    assert!(read.background_audit);
    assert!(read.validate().is_err());
}

#[test]
fn a_section_that_the_host_cannot_read_is_an_error() {
    for content in [
        &b""[..],
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        br#"{"rules":[]}"#,
        br#"{"rules":[],"mutating":"no"}"#,
        br#"{"rules":[],"mutating":true,"mutating":true}"#,
    ] {
        let module = [guest(), padded_section(SECTION, content)].concat();
        let read = read(&module);
        assert!(matches!(read, Err(Error::Section(_))), "{}: {read:?}", String::from_utf8_lossy(content));
    }
}

#[test]
fn the_protocol_is_v1_whatever_was_given() {
    for protocol_version in [None, Some(ProtocolVersion::Unknown), Some(ProtocolVersion::V1)] {
        let annotated = annotate(&guest(), &Metadata { protocol_version, ..metadata() }).unwrap();
        assert_eq!(read(&annotated).unwrap().unwrap().protocol_version, Some(ProtocolVersion::V1));
    }
}

#[test]
fn metadata_that_the_host_refuses_is_not_written() {
    let mut invalid = from_yaml(
        "{rules: [{apiGroups: [a], apiVersions: [v1], resources: [pods], operations: [CREATE]}], mutating: false}",
    )
    .unwrap();
    invalid.rules[0].api_groups.clear();
    let refused = annotate(&guest(), &invalid).unwrap_err();
    assert_eq!(refused.to_string(), "metadata: /rules/0/apiGroups must not be empty");

    for mode in ["wasi", "opa", "gatekeeper"] {
        let metadata = from_yaml(&format!("{MINIMAL}executionMode: {mode}\n")).unwrap();
        assert_eq!(metadata.protocol_version, Some(ProtocolVersion::Unknown));
        let refused = annotate(&guest(), &metadata).unwrap_err();
        assert!(refused.to_string().contains("executionMode"), "{refused}");
    }
}

#[test]
fn what_is_no_module_is_named() {
    let cases: [(&[u8], &str); 8] = [
        (b"", "the file is empty"),
        (b"\0as", "does not begin"),
        (b"\0asm", "ends within its header"),
        (b"\0asm\x01\0", "ends within its header"),
        (b"\0asm\x0d\0\x01\0", "it is a component"),
        (b"(module)", "as text"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "compressed"),
        (b"\x7fELF\x02\x01\x01\0", "does not begin"),
    ];
    for (bytes, reason) in cases {
        for error in [annotate(bytes, &metadata()).unwrap_err(), read(bytes).unwrap_err()] {
            assert!(matches!(error, Error::NotAModule(said) if said.contains(reason)), "{bytes:?}: {error}");
        }
    }
}

#[test]
fn a_module_cut_anywhere_is_refused() {
    let whole = guest();
    for length in 8..whole.len() {
        let error = annotate(&whole[..length], &metadata()).unwrap_err();
        assert!(matches!(error, Error::BrokenModule { .. } | Error::NotAPolicy(_)), "{length}: {error}");
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    let cases: [&[u8]; 6] = [
        // A section of 4 GiB, one of nothing where a name must be, one cut within its length.
        b"\x00\xff\xff\xff\xff\x0f",
        b"\x00\x00",
        b"\x00\x80",
        // A length of more than 32 bits, and one of more than five bytes.
        b"\x00\xff\xff\xff\xff\x7f",
        b"\x00\x80\x80\x80\x80\x80\x80\x80\x01",
        // A name longer than its section.
        b"\x00\x02\x16i",
    ];
    for tail in cases {
        let module = [&guest(), tail].concat();
        assert!(matches!(annotate(&module, &metadata()), Err(Error::BrokenModule { .. })), "{tail:x?}");
        assert!(matches!(read(&module), Err(Error::BrokenModule { .. })), "{tail:x?}");
    }
}

#[test]
fn a_module_that_no_host_can_call_is_refused() {
    let memory = r#"(memory (export "memory") 1)"#;
    let call = r#"(func (export "__guest_call") (param i32 i32) (result i32) i32.const 1)"#;
    let init = r#"(func (export "wapc_init"))"#;
    let start = r#"(func (export "_start"))"#;
    let cases = [
        (vec![memory, call, init], None),
        (vec![memory, call, start], None),
        (vec![memory, init], Some("__guest_call")),
        (vec![memory, call], Some("wapc_init")),
        (vec![call, init], Some("memory")),
        (vec![memory, init, r#"(global (export "__guest_call") i32 i32.const 0)"#], Some("__guest_call")),
        (vec![memory, call, init, r#"(func (export "opa_eval"))"#], Some("Rego")),
        (vec![r#"(import "kubewarden:javy/host" "call" (func))"#, memory, call, init], Some("javy")),
        (vec![r#"(import "host" "call" (func))"#, memory, call, init], None),
        (vec![], Some("__guest_call")),
    ];
    for (parts, reason) in cases {
        let module = wat::parse_str(format!("(module {})", parts.concat())).unwrap();
        match (annotate(&module, &metadata()), reason) {
            (Ok(_), None) => {}
            (Err(Error::NotAPolicy(said)), Some(reason)) if said.contains(reason) => {}
            (got, wanted) => panic!("{parts:?}: wanted {wanted:?}, got {got:?}"),
        }
    }
}
