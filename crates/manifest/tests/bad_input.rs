//! What cannot be read is told with its place, and the rest is read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing test panics, also in its helpers"
)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use manifest::{MAX_DEPTH, MAX_PROBLEMS, Parsed, parse};

/// Each problem as `line:column message`, and how many documents there are beside.
fn read(bytes: &[u8]) -> (Vec<String>, usize) {
    let Parsed { documents, problems } = parse("t.yaml", bytes);
    (problems.iter().map(|p| format!("{}:{} {}", p.line, p.column, p.message)).collect(), documents.len())
}

#[track_caller]
fn refused(bytes: &[u8], begins: &str, holds: &str, documents: usize) {
    let (problems, beside) = read(bytes);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert_eq!(problems.len(), 1, "{shown:?} gives {problems:?}");
    assert!(problems[0].starts_with(&format!("{begins} ")), "{shown:?} gives {problems:?}");
    assert!(problems[0].contains(holds), "{shown:?} gives {problems:?}");
    assert_eq!(beside, documents, "documents of {shown:?}");
}

#[test]
fn nothing_is_no_problem() {
    for text in
        ["", "\n\n", "# a\n  # b", "---\n", "---\n---\n# x\n---", "null\n", "~", "\u{feff}", "  \n", "---\n...\n"]
    {
        assert_eq!(read(text.as_bytes()), (vec![], 0), "{text:?}");
    }
}

#[test]
fn what_is_no_text_is_not_read() {
    refused(b"a: 1\nb: \0\n---\nc: 1\n", "2:4", "not a text file: it holds a zero byte", 0);
    refused(b"\x7fELF\x02\x01\x01\0\0\0", "1:8", "not a text file", 0);
    refused(b"a: 1\n---\nb: \xe9\xe8\n---\nc: 1\n", "3:4", "this is not UTF-8", 2);
    refused(b"\xff\xfea\0:\0\0\xd8b\0", "1:2", "broken UTF-16", 0);
    refused(b"\xff\xfea\0:", "1:2", "UTF-16", 0);
    refused(b"a: 1\nb: \x07\n---\nc: 1\n", "2:4", "control character U+0007", 1);
}

#[test]
fn byte_order_marks_and_utf_16_are_read() {
    let text = "a: é😀\r\n---\r\nb: 1\r\n";
    let little: Vec<u8> = [0xFF, 0xFE].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let big: Vec<u8> = [0xFE, 0xFF].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect();
    let eight = format!("\u{feff}{text}").into_bytes();
    for bytes in [little, big, eight] {
        let parsed = parse("t", &bytes);
        assert_eq!(parsed.problems, []);
        assert_eq!(parsed.documents[0].value["a"], "é😀");
        assert_eq!(parsed.documents[1].locate("/b").line, 3);
    }
    assert_eq!(read("\u{feff}{\"a\": 1}".as_bytes()), (vec![], 1));
    assert_eq!(read("a: 1\n---\n\u{feff}{\"a\": 1}\n---\n\u{feff}b: 1".as_bytes()), (vec![], 3));
}

#[test]
fn broken_yaml_names_its_line_and_spares_the_rest() {
    for (broken, begins, holds) in [
        ("b:\n\tc: 1\n", "4:1", "a tab is used as indentation: YAML wants spaces"),
        ("b:\n  c: 1\n\td: 1\n", "5:1", "a tab is used as indentation"),
        ("b: [1, 2\n", "3:4", "not YAML"),
        ("b: \"x\n", "4:1", "close its quote above"),
        ("b: c: d\n", "3:5", "not YAML"),
        ("b: *nope\n", "3:4", "nothing above in this document has the anchor that `*nope` names"),
        ("b: !e!x 1\n", "3:4", "the tag's handle is not declared"),
        ("b: !!int x\n", "3:10", "`x` does not fit its tag `!!int`"),
        ("b: !!binary '?'\n", "3:13", "not base64"),
        ("b: .inf\n", "3:4", "no infinity"),
        ("[b]: c\n", "3:1", "cannot be a key"),
        (": c\n", "3:1", "a key is missing"),
        ("~: c\n", "3:1", "a key is missing"),
        ("b: 1\n<<: 1\n", "4:5", "`<<` takes a mapping"),
        ("b: &x [*x]\n", "3:8", "stands within the value it names"),
        ("just text\n", "3:1", "this is the text `just text`"),
        ("- b: 1\n- c: 1\n", "3:1", "make it `kind: List`"),
        ("[1]\n", "3:1", "this is a list"),
        ("true\n", "3:1", "this is `true`"),
        ("%YAML 1.2\n", "3:1", "directive"),
        ("b: 1\n...\nc: 1\n", "5:1", "kubectl ignores what stands behind `...`"),
        ("b: 1\nb: 2\nd: 3\n\"b\": 2\n", "4:1", "the key `b` is here a second time (line 4), it was set in line 3"),
    ] {
        let text = format!("a: 1\n---\n{broken}---\nz: 1\n");
        let (problems, documents) = read(text.as_bytes());
        assert!(!problems.is_empty(), "{broken:?}");
        assert!(
            problems[0].starts_with(&format!("{begins} ")) && problems[0].contains(holds),
            "{broken:?} gives {problems:?}"
        );
        let duplicates = problems[0].contains("second time");
        assert_eq!(
            (problems.len(), documents),
            if duplicates { (2, 3) } else { (1, 2) },
            "{broken:?} gives {problems:?}"
        );
    }
}

#[test]
fn a_separator_with_more_than_a_comment_costs_its_document() {
    refused(b"a: 1\n--- b: 1\n---\nc: 1\n", "2:1", "put the rest on the next line", 2);
    refused(b"a: 1\n----\nb: 1\n", "2:1", "separates documents", 1);
    assert_eq!(read(b"a: 1\n--- # Source: x\nb: 1\n"), (vec![], 2));
}

#[test]
fn helm_templates_are_recognised() {
    for (text, begins) in [
        ("kind: Pod\nmetadata:\n  name: {{ .Release.Name }}\n", "3:9"),
        ("{{- if .Values.x }}\nkind: Pod\n{{- end }}\n", "1:1"),
        ("kind: Pod\n{{- with .Values.x }}\nx: 1\n{{- end }}\n", "2:1"),
        ("metadata:\n  labels:\n    {{- include \"x\" . | nindent 4 }}\n", "3:5"),
        ("args:\n- {{ .x }}\n", "2:3"),
        ("{{ include \"x\" . }}\n", "1:1"),
        ("{{/* comment */}}\nname: x-{{ .y }}\nz: {{ .z }}\n", "1:1"),
    ] {
        refused(text.as_bytes(), begins, "render it first (`helm template", 0);
    }
    // Braces within texts are what alerts and config maps have.
    assert_eq!(read(b"a: \"{{ $labels.x }}\"\nb: |\n  {{ x }}\nc: a-{{ x }}\n"), (vec![], 1));
    refused(b"a: \"{{ $labels.x }}\"\n\tb: 1\n", "2:1", "a tab is used as indentation", 0);
}

#[test]
fn broken_json_is_told_as_json() {
    for (text, begins, holds, documents) in [
        ("{\"a\": 1} xyz", "1:10", "this follows a complete JSON object", 1),
        ("{\"a\": 1}}", "1:9", "this follows a complete JSON object", 1),
        ("{\"a\": 1}{\"b\": ", "1:15", "a value is expected here, the text ends", 1),
        ("{\"a\": 1\n\"b\": 2}", "2:1", "`,` or `}` is expected here, found `\\\"`", 0),
        ("{\"a\": 1} // c", "1:10", "this follows", 1),
        ("{\"a\": 1 // c\n}", "1:9", "JSON has no comments", 0),
        ("{\"a\": /* c */ 1}", "1:7", "JSON has no comments", 0),
        ("{\"a\": \"x", "1:7", "no end", 0),
        ("{\"a\": 1e999}", "1:7", "too large", 0),
        ("{\"a\": \"\\ud8\"}", "1:8", "four hexadecimal digits", 0),
        ("{\"a\": 1, \"a\": 2}", "1:10", "the key `a` is here a second time (line 1)", 1),
        ("a: 1\n---\n{\"b\": 1}{\"c\": 1}", "3:9", "put `---` before it", 3),
        ("{\"a\": 1}{\"b\": 1}\n---\nc: 1\n", "3:1", "after several JSON objects", 3),
    ] {
        let (problems, beside) = read(text.as_bytes());
        assert_eq!(problems.len(), 1, "{text:?} gives {problems:?}");
        assert!(problems[0].contains(holds), "{text:?} gives {problems:?}");
        assert_eq!(beside, documents, "{text:?}");
        assert!(problems[0].starts_with(&format!("{begins} ")), "{text:?} gives {problems:?}");
    }
}

#[test]
fn depth_is_bounded_in_every_notation() {
    type Notation = fn(usize) -> String;
    let block = |depth: usize| (0..depth).flat_map(|level| [" ".repeat(level), "a:\n".to_owned()]).collect::<String>();
    let notations: [(&str, Notation); 4] = [
        ("flow", |depth| format!("a: {}{}\n", "[".repeat(depth - 1), "]".repeat(depth - 1))),
        ("JSON lists", |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))),
        ("JSON mappings", |depth| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))),
        ("dashes", |depth| format!("a:\n {}x\n", "- ".repeat(depth - 1))),
    ];
    for (name, notation) in notations {
        assert_eq!(read(notation(MAX_DEPTH).as_bytes()), (vec![], 1), "{name}");
        for depth in [MAX_DEPTH + 1, 1000, 100_000] {
            let text = format!("{}\n---\nz: 1\n", notation(depth));
            let (problems, documents) = read(text.as_bytes());
            assert_eq!((problems.len(), documents), (1, 1), "{name} {depth} {problems:?}");
            assert!(problems[0].contains("nested deeper than 128 levels"), "{name} {depth} {problems:?}");
        }
    }
    assert_eq!(read(block(MAX_DEPTH).as_bytes()), (vec![], 1));
    refused(block(1000).as_bytes(), &format!("{}:{}", MAX_DEPTH + 1, MAX_DEPTH + 1), "nested deeper", 0);
}

#[test]
fn aliases_cannot_nest_beyond_the_depth() {
    let level = |value: &str| format!("{}{value}{}", "[".repeat(60), "]".repeat(60));
    let fits = format!("a: &a {}\nb: &b {}\n", level("1"), level("*a"));
    assert_eq!(read(fits.as_bytes()), (vec![], 1));
    let text = format!("{fits}c: {}\n", level("*b"));
    refused(text.as_bytes(), "3:64", "nested deeper", 0);
}

#[test]
fn aliases_cannot_multiply() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..40 {
        let before = format!("*a{}", level - 1);
        writeln!(laughs, "a{level}: &a{level} [{}]", [before.as_str(); 9].join(", ")).unwrap();
    }
    let text = format!("{laughs}---\nz: 1\n");
    let started = Instant::now();
    let (problems, documents) = read(text.as_bytes());
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!((problems.len(), documents), (1, 1), "{problems:?}");
    assert!(problems[0].contains("aliases of this file multiply"), "{problems:?}");

    // Many documents share one allowance.
    let one = format!("a: &a {:?}\nb: [{}]\n---\n", "x".repeat(50_000), ["*a"; 4].join(","));
    let many = one.repeat(20);
    assert_eq!(read(many.as_bytes()).0, [""; 0]);

    // A long text counts as what it is.
    let text = format!("a: &a {:?}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 100_000].join(","));
    let (problems, _) = read(text.as_bytes());
    assert!(problems[0].contains("multiply"), "{problems:?}");
}

#[test]
fn problems_are_bounded() {
    let many = "a: {b: 1, b: 2}\n---\n".repeat(10_000);
    let (problems, documents) = read(many.as_bytes());
    assert_eq!((problems.len(), documents), (MAX_PROBLEMS + 1, 10_000));
    assert!(problems[MAX_PROBLEMS].contains("more problems follow"));
    let within = "b: 1\n".repeat(50_000);
    let started = Instant::now();
    assert_eq!(read(within.as_bytes()).0.len(), MAX_PROBLEMS + 1);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn problems_come_in_the_order_of_the_text() {
    let (problems, _) = read(b"a: [\n---\nb: 1\nb: 2\n---\n- x\n---\n\tc: 1\n");
    let lines: Vec<_> =
        problems.iter().map(|problem| problem.split(':').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(lines, ["1", "4", "6", "8"], "{problems:?}");
}

#[test]
fn type_meta_wants_both_as_text() {
    for (text, expected) in [
        ("apiVersion: v1\nkind: Pod\n", Some(("v1", "Pod"))),
        ("apiVersion: 1\nkind: Pod\n", None),
        ("kind: Pod\n", None),
        ("apiVersion: v1\nkind: ''\n", None),
    ] {
        assert_eq!(parse("t", text.as_bytes()).documents[0].type_meta(), expected, "{text:?}");
    }
}
