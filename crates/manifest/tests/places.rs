//! Where fields are said to stand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing test panics, also in its helpers"
)]

use manifest::{Document, Source, parse};

fn only(text: &str) -> Document {
    let parsed = parse("t.yaml", text.as_bytes());
    assert_eq!(parsed.problems, [], "{text}");
    let [document] = <[Document; 1]>::try_from(parsed.documents).unwrap();
    document
}

fn at(document: &Document, pointer: &str) -> (u32, u32) {
    let location = document.locate(pointer);
    (location.line, location.column)
}

#[test]
fn fields_stand_at_their_keys_and_items_at_their_beginnings() {
    let document = only(concat!(
        "# a comment\n",
        "kind: StatefulSet\n",
        "spec:\n",
        "  replicas: 4\n",
        "  template:\n",
        "    containers:\n",
        "    - name: zk\n",
        "      args: [a, 'b']\n",
        "    -   name: \"log\"\n",
        "  'a/b~c': {x: 1}\n",
        "  list:\n",
        "    - - 1\n",
        "      - 2\n",
    ));
    for (pointer, expected) in [
        ("", (2, 1)),
        ("/kind", (2, 1)),
        ("/spec", (3, 1)),
        ("/spec/replicas", (4, 3)),
        ("/spec/template/containers", (6, 5)),
        ("/spec/template/containers/0", (7, 7)),
        ("/spec/template/containers/0/name", (7, 7)),
        ("/spec/template/containers/0/args/1", (8, 17)),
        ("/spec/template/containers/1", (9, 9)),
        ("/spec/a~1b~0c/x", (10, 13)),
        ("/spec/list/0/1", (13, 9)),
        // The nearest ancestor.
        ("/metadata/name", (2, 1)),
        ("/spec/selector/matchLabels", (3, 1)),
        ("/spec/template/containers/7/name", (6, 5)),
        ("/spec/template/containers/00", (6, 5)),
        ("/spec/template/containers/-", (6, 5)),
        ("/spec/0", (3, 1)),
        ("/spec/replicas/x", (4, 3)),
    ] {
        assert_eq!(at(&document, pointer), expected, "{pointer}");
    }
}

#[test]
fn columns_count_characters_whatever_ends_the_lines() {
    let document = only("\u{feff}é: {ü: 1, 日本: [😀, x]}\r\nb:\r\n\r\n  c: \"\ttab\"\r\n");
    for (pointer, expected) in [
        ("/é", (1, 1)),
        ("/é/ü", (1, 5)),
        ("/é/日本", (1, 11)),
        ("/é/日本/1", (1, 19)),
        ("/b", (2, 1)),
        ("/b/c", (4, 3)),
    ] {
        assert_eq!(at(&document, pointer), expected, "{pointer}");
    }
    let excerpt = document.excerpt(document.locate("/b/c")).unwrap();
    assert_eq!(excerpt.text, "  c: \" tab\"");
}

#[test]
fn json_has_places_too() {
    let document = only("{\n\t\"a\": [1, {\"b\": \"x\"}],\n\t\"c\" : {}\n}\n");
    for (pointer, expected) in [("", (1, 1)), ("/a", (2, 2)), ("/a/0", (2, 8)), ("/a/1/b", (2, 12)), ("/c/d", (3, 2))] {
        assert_eq!(at(&document, pointer), expected, "{pointer}");
    }
}

#[test]
fn what_an_alias_brings_stands_at_its_anchor() {
    let document = only(concat!(
        "a: &x\n",
        "  b: 1\n",
        "c: *x\n",
        "d:\n",
        "  <<: *x\n",
        "  e: 2\n",
        "f:\n",
        "  <<: [{g: 1, h: 1}, {g: 2, i: 2}]\n",
        "  h: 3\n",
        "k: [*x]\n",
    ));
    assert_eq!(document.value["f"], serde_json::json!({"g": 1, "h": 3, "i": 2}));
    for (pointer, expected) in [
        ("/c", (3, 1)),
        ("/c/b", (2, 3)),
        ("/d/b", (2, 3)),
        ("/d/e", (6, 3)),
        ("/f/g", (8, 9)),
        ("/f/h", (9, 3)),
        ("/f/i", (8, 29)),
        ("/k/0", (10, 5)),
        ("/k/0/b", (2, 3)),
    ] {
        assert_eq!(at(&document, pointer), expected, "{pointer}");
    }
}

#[test]
fn the_last_of_two_equal_keys_is_located() {
    let parsed = parse("t.yaml", b"a: 1\nb: 2\na: {c: 3}\n");
    let [document] = <[Document; 1]>::try_from(parsed.documents).unwrap();
    assert_eq!(document.value["a"]["c"], 3);
    assert_eq!(at(&document, "/a"), (3, 1));
    assert_eq!(at(&document, "/a/c"), (3, 5));
}

#[test]
fn places_outlive_values() {
    let parsed = parse("dir/x.yaml", b"a: 1\n---\nb:\n  c: 2\n");
    let (_, place) = parsed.documents.into_iter().nth(1).unwrap().into_parts();
    assert_eq!(place.locate("/b/c").line, 4);
    assert_eq!(place.source().name(), "dir/x.yaml");
    assert_eq!((place.index(), place.text()), (1, "b:\n  c: 2\n"));
    assert_eq!(place.source().line(4), Some("  c: 2"));
    assert_eq!(format!("{place:?}"), "dir/x.yaml:3 (document 1)");
}

#[test]
fn lists_are_taken_apart_and_keep_their_places() {
    let parsed = parse(
        "list.yaml",
        concat!(
            "kind: StatefulSetList\n",
            "apiVersion: apps/v1\n",
            "items:\n",
            "- metadata: {name: a}\n",
            "- kind: Pod\n",
            "- kind: List\n",
            "  items:\n",
            "  - {kind: Service}\n",
            "  - metadata: {name: bare}\n",
            "- 7\n",
            "- metadata: {name: b}\n",
            "---\n",
            "{\"kind\": \"List\", \"items\": null}\n",
            "---\n",
            "kind: AllowList\n",
            "spec: {items: []}\n",
        )
        .as_bytes(),
    );
    let seen: Vec<_> =
        parsed.documents.iter().map(|d| (d.type_meta(), d.locate("").line, d.locate("/metadata/name"))).collect();
    let lines: Vec<_> = seen.iter().map(|(_, line, _)| *line).collect();
    assert_eq!(lines, [4, 5, 8, 9, 11, 15]);
    assert_eq!(seen[0].0, Some(("apps/v1", "StatefulSet")));
    // It has a kind, and so nothing is given to it.
    assert_eq!(seen[1].0, None);
    assert_eq!(seen[3].0, None);
    assert_eq!(seen[4].0, Some(("apps/v1", "StatefulSet")));
    assert_eq!((seen[4].2.line, seen[4].2.column), (11, 14));
    let [problem] = &parsed.problems[..] else { panic!("{:?}", parsed.problems) };
    assert_eq!((problem.line, problem.column), (10, 3));
    assert!(problem.message.contains("the number 7"), "{}", problem.message);
}

#[test]
fn a_file_of_one_long_line_has_excerpts() {
    let text = format!("{{\"items\": [{}\"end\"], \"kind\": \"X\"}}", "\"é\", ".repeat(20_000));
    let document = only(&text);
    let location = document.locate("/items/20000");
    assert_eq!((location.line, location.column), (1, 12 + 5 * 20_000));
    let excerpt = document.excerpt(location).unwrap();
    assert!(excerpt.text.chars().count() <= Source::EXCERPT);
    assert!(excerpt.text.chars().skip(excerpt.column as usize - 1).collect::<String>().starts_with("\"end\""));
}
