//! The command, as a user runs it: exit codes, both forms of the report, bad input of every kind.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for other code")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A budget in a version that is gone: one error, whatever the policies say.
const REMOVED: &str = "apiVersion: policy/v1beta1
kind: PodDisruptionBudget
metadata:
  name: old
spec:
  maxUnavailable: 1
  selector: { matchLabels: { app: nothing } }
";
/// Nothing that any policy minds.
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: { name: s }\n";

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    for variable in ["NO_COLOR", "TERM", "COLUMNS", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command
}

fn quorate(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = command(folder, arguments).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "", "{arguments:?}");
    (status.code().unwrap(), String::from_utf8(stdout).unwrap())
}

fn with_stdin(arguments: &[&str], text: &[u8]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn as_json(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let arguments = [&["check", "--format", "json"], arguments].concat();
    let (code, text) = quorate(folder, &arguments);
    (code, serde_json::from_str(&text).unwrap())
}

/// `file:line:column message` of each problem.
fn problems(report: &Value) -> Vec<String> {
    let place = |problem: &Value| match (&problem["line"], &problem["column"]) {
        (Value::Null, Value::Null) => problem["file"].as_str().unwrap_or("?").to_owned(),
        (line, column) => format!("{}:{line}:{column}", problem["file"].as_str().unwrap()),
    };
    let text = |problem: &Value| format!("{} {}", place(problem), problem["message"].as_str().unwrap());
    report["problems"].as_array().unwrap().iter().map(text).collect()
}

#[test]
fn the_exit_code_says_what_came_of_it() {
    let folder = folder(&[("good.yaml", SERVICE.as_bytes()), ("old.yaml", REMOVED.as_bytes()), ("bad.yaml", b"a: [")]);
    let code = |arguments: &[&str]| quorate(folder.path(), &[&["check"], arguments].concat()).0;
    assert_eq!(code(&["good.yaml"]), 0);
    assert_eq!(code(&["good.yaml", "old.yaml"]), 1);
    assert_eq!(code(&["bad.yaml"]), 2);
    assert_eq!(code(&["missing.yaml", "good.yaml"]), 2);
    assert_eq!(code(&["old.yaml", "bad.yaml"]), 2, "2 beats 1");
}

#[test]
fn warnings_count_only_when_asked() {
    // A system that the catalogue knows to vote, declared not to.
    let sound = fs::read_to_string(corpus::root().join("test-data/ensembles/zookeeper-sound.yaml")).unwrap();
    let set = sound.replace(
        "kind: StatefulSet\nmetadata:",
        "kind: StatefulSet\nmetadata:\n  annotations: { quorate.dev/quorum: none }",
    );
    assert_ne!(set, sound);
    let folder = folder(&[("zk.yaml", set.as_bytes())]);
    let (code, report) = as_json(folder.path(), &["zk.yaml"]);
    assert_eq!((code, &report["summary"]["errors"]), (0, &json!(0)), "{report:#}");
    assert!(report["summary"]["warnings"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(quorate(folder.path(), &["check", "--fail-on", "warning", "zk.yaml"]).0, 1);
}

/// The blocks of a page that are of this language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

#[test]
fn the_way_from_the_tutorial_is_as_its_page_says() {
    let read = |name: &str| fs::read_to_string(corpus::root().join(name)).unwrap();
    let page = read("docs/zookeeper.md");
    let mended = read("test-data/ensembles/zookeeper-tutorial.yaml");
    let folder = folder(&[("zookeeper.yaml", mended.as_bytes())]);
    let (code, report) = quorate(folder.path(), &["check", "--fail-on", "warning", "zookeeper.yaml"]);
    assert_eq!((code, report.as_str()), (0, "1 file, 4 objects: nothing found\n"));

    let (told, hunks) = (blocks(&page, "text"), blocks(&page, "diff"));
    assert_eq!((told.len(), hunks.len()), (2, 2));
    for (told, hunk) in told.iter().zip(hunks) {
        let lines = || hunk.lines().filter(|line| !["---", "+++", "@@ "].iter().any(|start| line.starts_with(start)));
        let side = |left_out: char| {
            let mut side = String::new();
            for line in lines().filter(|line| !line.starts_with(left_out)) {
                side.push_str(&line[1..]);
                side.push('\n');
            }
            side
        };
        let (old, new) = (side('+'), side('-'));
        assert_eq!(mended.matches(&new).count(), 1, "{new}");
        fs::write(folder.path().join("zookeeper.yaml"), mended.replace(&new, &old)).unwrap();
        let (code, report) = quorate(folder.path(), &["check", "zookeeper.yaml"]);
        // The page breaks lines, has the places of the tutorial, and leaves out what the manifest says there.
        let close = |text: &str| text.split_whitespace().collect::<String>();
        let (_, told) = told.split_once("error[").unwrap();
        let (what, rest) = told.split_once("why:").unwrap();
        let (why, fix) = rest.split_once("fix:").unwrap();
        for part in [format!("error[{what}"), format!("why:{why}"), format!("fix:{fix}")] {
            assert!(close(&report).contains(&close(&part)), "{part}\n{report}");
        }
        assert_eq!((code, report.matches("error[").count()), (1, 1), "{report}");
        assert!(report.ends_with("1 file, 4 objects: 1 error\n"), "{report}");
    }
}

/// What a block of a page says: its language, what is in it, and the codes in the heading above.
struct Block<'a> {
    language: &'a str,
    lines: Vec<&'a str>,
    codes: BTreeSet<&'a str>,
}

/// All blocks of a page, in order.
fn all_blocks(page: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut codes) = (Vec::new(), BTreeSet::new());
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('#') {
            codes = line.split('`').skip(1).step_by(2).collect();
        } else if let Some(language) = line.strip_prefix("```") {
            let lines = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { language, lines, codes: codes.clone() });
        }
    }
    blocks
}

fn joined<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn each_change_that_the_page_of_charts_takes_back_is_found_and_nothing_else() {
    let read = |name: &str| fs::read_to_string(corpus::root().join(name)).unwrap();
    let page = read("docs/charts.md");
    let sound = read("test-data/chart/rendered.yaml");
    let folder = folder(&[("chart.yaml", sound.as_bytes())]);
    let (code, report) = quorate(folder.path(), &["check", "--fail-on", "warning", "chart.yaml"]);
    assert_eq!((code, report.as_str()), (0, "1 file, 3 objects: nothing found\n"));

    let mut policies = BTreeSet::new();
    for Block { language, lines, codes } in all_blocks(&page) {
        if language == "yaml" {
            // Lines of the chart, under the name of the file that has them.
            let name = lines[0].strip_prefix("# ").unwrap();
            let part = joined(lines[1..].iter().copied());
            assert!(read(&format!("test-data/chart/{name}")).contains(&part), "{name} does not have\n{part}");
            continue;
        }
        assert_eq!(language, "diff", "{lines:?}");
        let side =
            |left_out: char| joined(lines.iter().filter(|line| !line.starts_with(left_out)).map(|line| &line[1..]));
        let (before, after) = (side('+'), side('-'));
        assert_ne!(before, after, "{codes:?}");
        assert_eq!(sound.matches(&after).count(), 1, "{codes:?}:\n{after}");
        fs::write(folder.path().join("chart.yaml"), sound.replace(&after, &before)).unwrap();
        let (code, report) = as_json(folder.path(), &["chart.yaml"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let findings = report["findings"].as_array().unwrap();
        let found: BTreeSet<String> =
            findings.iter().map(|finding| text(&finding["policy"]) + "/" + &text(&finding["code"])).collect();
        assert_eq!((code, &found), (1, &codes.into_iter().map(str::to_owned).collect()), "{report:#}");
        policies.extend(findings.iter().map(|finding| text(&finding["policy"])));
    }
    let shipped = fs::read_dir(corpus::root().join("policies")).unwrap();
    let shipped: BTreeSet<String> = shipped.map(|policy| policy.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(policies, shipped, "each policy has something to say of a chart");
}

#[test]
fn the_denial_that_is_taken_apart_is_what_the_policy_says() {
    let page = fs::read_to_string(corpus::root().join("docs/denial.md")).unwrap();
    let broken = fs::read(corpus::root().join("test-data/ensembles/zookeeper-broken.yaml")).unwrap();
    let folder = folder(&[("zookeeper.yaml", &broken)]);
    let (_, report) = as_json(folder.path(), &["zookeeper.yaml"]);
    let finding =
        report["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == "even-members").unwrap();
    let part = |name: &str| finding[name].as_str().unwrap();
    let close = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let told = blocks(&page, "text");
    assert_eq!(told.len(), 2);
    let (message, why, advice) = (part("message"), part("why"), part("advice"));
    // The page, and the table below it, name the object by the command; the checker names it in the message.
    let message = message.strip_prefix("StatefulSet zookeeper: ").unwrap_or(message);
    assert!(close(told[0]).ends_with(&format!("denied the request: {message}; {why}; {advice}")), "{}", told[0]);
    assert_eq!(close(told[1]), format!("Warning: {message}; {advice}"));
    let what = message.strip_prefix("spec.replicas: Invalid value: 4: ").unwrap();
    for cell in ["`spec.replicas: Invalid value: 4`", what, why, advice] {
        assert!(page.contains(&format!("| {cell} |\n")), "{cell}");
    }
}

#[test]
fn wrong_usage_is_told_on_standard_error_with_code_2() {
    for arguments in [
        &[][..],
        &["check"],
        &["check", "--no-such-option", "x"],
        &["check", "--format", "xml", "x"],
        &["check", "--time-limit", "0", "x"],
        &["check", "--time-limit", "nan", "x"],
        &["check", "--time-limit", "soon", "x"],
    ] {
        let output = command(Path::new("."), arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("Usage: quorate") || told.starts_with("error: invalid value"), "{arguments:?}: {told}");
    }
}

#[test]
fn help_and_version_are_as_documented() {
    let (code, help) = quorate(Path::new("."), &["check", "--help"]);
    let expected = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/check-help.txt");
    if std::env::var("QUORATE_BLESS").is_ok_and(|bless| bless == "1") {
        fs::write(expected, &help).unwrap();
    }
    assert_eq!((code, help), (0, fs::read_to_string(expected).unwrap()), "QUORATE_BLESS=1 rewrites the file");
    let version = format!("quorate {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(quorate(Path::new("."), &["--version"]), (0, version));
}

#[test]
fn a_person_sees_the_place_the_line_the_reason_and_the_fix() {
    let folder = folder(&[("sub/old.yaml", format!("# A comment.\n---\n{REMOVED}").as_bytes())]);
    let expected = "sub/old.yaml:3:1: error[quorate/removed-api-version]: PodDisruptionBudget old: apiVersion: \
Invalid value: \"policy/v1beta1\": no Kubernetes since 1.25 serves it
 3 | apiVersion: policy/v1beta1
   | ^^^^^^^^^^^^^^^^^^^^^^^^^^
  why: a cluster refuses this PodDisruptionBudget, and what it was to bring about never happens
  fix: use policy/v1

missing.yaml: problem: there is no such file or folder

1 file, 1 object: 1 error, 1 problem
";
    assert_eq!(quorate(folder.path(), &["check", "sub", "missing.yaml"]), (2, expected.to_owned()));

    let (_, colored) = quorate(folder.path(), &["check", "--color", "always", "sub"]);
    assert!(colored.contains("\u{1b}[1m\u{1b}[31merror[quorate/removed-api-version]\u{1b}[0m"), "{colored:?}");
    let (_, plain) = quorate(folder.path(), &["check", "sub"]);
    assert!(!plain.contains('\u{1b}'), "standard output is no terminal here");
}

#[test]
fn json_has_the_documented_fields_and_no_others() {
    let folder = folder(&[("old.yaml", REMOVED.as_bytes()), ("bad.yaml", b"kind: [\n")]);
    let (code, report) = as_json(folder.path(), &["old.yaml", "bad.yaml", "missing.yaml"]);
    let message = report["problems"][0]["message"].clone();
    assert!(message.as_str().is_some_and(|message| !message.is_empty()));
    let mut findings = report["findings"].clone();
    findings.as_array_mut().unwrap().retain(|finding| finding["policy"] == "quorate");
    assert_eq!(
        json!({"schema": report["schema"], "findings": findings, "problems": report["problems"]}),
        json!({
            "schema": 1,
            "findings": [{
                "policy": "quorate", "code": "removed-api-version", "level": "error",
                "object": {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "namespace": "default", "name": "old"},
                "path": "/apiVersion", "file": "old.yaml", "line": 1, "column": 1,
                "message": "apiVersion: Invalid value: \"policy/v1beta1\": no Kubernetes since 1.25 serves it",
                "why": "a cluster refuses this PodDisruptionBudget, and what it was to bring about never happens",
                "advice": "use policy/v1", "see": null, "fixable": false,
            }],
            "problems": [
                {"file": "bad.yaml", "line": report["problems"][0]["line"], "column": report["problems"][0]["column"], "message": message},
                {"file": "missing.yaml", "line": null, "column": null, "message": "there is no such file or folder"},
            ],
        })
    );
    let top: Vec<&String> = report.as_object().unwrap().keys().collect();
    assert_eq!(top, ["findings", "problems", "schema", "summary"]);
    let summary: Vec<&String> = report["summary"].as_object().unwrap().keys().collect();
    assert_eq!(summary, ["errors", "files", "objects", "problems", "suppressed", "warnings"]);
    assert_eq!((code, &report["summary"]["problems"], &report["summary"]["files"]), (2, &json!(2), &json!(2)));
}

/// Checks one bad file between two good ones: the problem, and that the others are still checked.
#[track_caller]
fn bad(name: &str, content: &[u8]) -> Vec<String> {
    let folder = folder(&[("a.yaml", REMOVED.as_bytes()), (name, content), ("z.yaml", SERVICE.as_bytes())]);
    let (code, report) = as_json(folder.path(), &["."]);
    assert_eq!(code, 2, "{report:#}");
    assert_eq!(report["findings"][0]["file"], "a.yaml", "{report:#}");
    assert!(report["summary"]["objects"].as_u64().unwrap() >= 2, "{report:#}");
    problems(&report)
}

#[test]
fn bad_input_is_told_with_its_place_and_the_rest_is_checked() {
    let cases: [(&str, &[u8], &str); 10] = [
        ("empty.yaml", b"", "empty.yaml the file is empty"),
        ("blank.yaml", b"\n \n", "blank.yaml the file is empty"),
        ("binary.yaml", b"\x7fELF\x02\0\0\0", "binary.yaml:1:6 not a text file"),
        ("latin.yaml", b"kind: Pod\n# caf\xe9\n", "latin.yaml:2:6 not a text file"),
        ("tabs.yaml", b"kind: Pod\nspec:\n\treplicas: 4\n", "tabs.yaml:3:"),
        (
            "helm.yaml",
            b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Release.Name }}\n",
            "helm.yaml:4:9 this looks like a Helm template",
        ),
        (
            "twice.yaml",
            b"apiVersion: v1\nkind: Pod\nkind: Service\nmetadata: {name: x}\n",
            "twice.yaml:3:1 the key `kind` is here a second time",
        ),
        (
            "half.yaml",
            b"kind: Pod\nmetadata: {name: x}\n",
            "half.yaml:1:1 not a Kubernetes object: apiVersion: Required value",
        ),
        (
            "typed.yaml",
            b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: 5\n",
            "typed.yaml:4:3 not a Kubernetes object: metadata.name: Invalid type",
        ),
        ("list.yaml", b"- a\n- b\n", "list.yaml:1:1 a Kubernetes object is a mapping, this is a list"),
    ];
    for (name, content, expected) in cases {
        let told = bad(name, content);
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:#?}\nexpected: {expected}");
    }
}

#[test]
fn depth_and_aliases_are_bounded() {
    let mut deep = String::from("apiVersion: v1\nkind: Pod\nmetadata: {name: deep}\nspec: ");
    deep.extend(std::iter::repeat_n("{a: ", 1000));
    deep.extend(std::iter::repeat_n("}", 1000));
    let told = bad("deep.yaml", deep.as_bytes());
    assert!(told.len() == 1 && told[0].starts_with("deep.yaml:4:") && told[0].contains("levels"), "{told:#?}");

    // Fewer levels than the reader takes, more than a policy can read.
    let depth = 123;
    let json = format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "x"}}, "spec": {}1{}}}"#,
        "[".repeat(depth),
        "]".repeat(depth)
    );
    let told = bad("deep.json", json.as_bytes());
    assert!(told.len() == 1 && told[0].starts_with("deep.json:1:1 more than 120 levels"), "{told:#?}");

    let mut bomb =
        String::from("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let before = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{before}]").unwrap();
    }
    let told = bad("bomb.yaml", bomb.as_bytes());
    assert!(told.len() == 1 && told[0].contains("alias"), "{told:#?}");
}

#[cfg(unix)]
#[test]
fn what_cannot_be_opened_is_told_by_its_name() {
    let folder = folder(&[("a.yaml", REMOVED.as_bytes()), ("x.yaml/notes.txt", b"")]);
    std::os::unix::fs::symlink("gone.yaml", folder.path().join("link.yaml")).unwrap();
    let (code, report) = as_json(folder.path(), &["a.yaml", "x.yaml", "link.yaml", "missing", "."]);
    assert_eq!(
        problems(&report),
        [
            "x.yaml there is no manifest in this folder (.yaml, .yml or .json)",
            "link.yaml there is no such file or folder",
            "missing there is no such file or folder",
            "link.yaml cannot be read: it is a link to nothing",
        ]
    );
    assert_eq!((code, &report["summary"]["errors"]), (2, &json!(1)), "the file that is named twice is read once");
}

#[cfg(target_os = "linux")]
#[test]
fn a_failing_read_is_told() {
    // Readable for everybody by its mode, and for nobody at its beginning.
    let (code, report) = as_json(Path::new("."), &["/proc/self/mem"]);
    assert_eq!((code, problems(&report)), (2, vec!["/proc/self/mem cannot be read: Input/output error".to_owned()]));
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes long without optimisation")]
fn a_file_of_50_mb_is_read() {
    let mut text = String::with_capacity(53 << 20);
    for number in 0.. {
        if text.len() > 50 << 20 {
            break;
        }
        writeln!(
            text,
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m{number}\ndata:\n  text: {}",
            "x".repeat(2000)
        )
        .unwrap();
    }
    text.push_str("---\n");
    text.push_str(REMOVED);
    let lines = text.lines().count();
    let folder = folder(&[("big.yaml", text.as_bytes())]);
    let (code, report) = as_json(folder.path(), &["big.yaml"]);
    assert_eq!((code, &report["problems"]), (1, &json!([])));
    assert_eq!(report["findings"][0]["line"], lines - REMOVED.lines().count() + 1);
}

#[test]
fn documents_behind_a_broken_one_are_checked() {
    let text = format!("kind: [\n---\n{REMOVED}---\n{SERVICE}");
    let folder = folder(&[("mixed.yaml", text.as_bytes())]);
    let (code, report) = as_json(folder.path(), &["mixed.yaml"]);
    assert_eq!((code, &report["summary"]["objects"], &report["findings"][0]["line"]), (2, &json!(2), &json!(3)));
}

#[test]
fn custom_resources_and_empty_documents_are_no_error() {
    let custom = "apiVersion: example.com/v1\nkind: Zoo\nmetadata: {name: z}\nspec: {anything: [1]}\n";
    let folder = folder(&[
        ("custom.yaml", custom.as_bytes()),
        ("documents.yaml", b"---\n---\n# nothing\n---\n"),
        ("comment.yaml", b"# switched off\n"),
    ]);
    let (code, report) = as_json(folder.path(), &["."]);
    assert_eq!((code, &report["findings"], &report["problems"]), (0, &json!([]), &json!([])));
    assert_eq!((&report["summary"]["files"], &report["summary"]["objects"]), (&json!(3), &json!(1)));
}

#[test]
fn other_yaml_in_a_folder_is_passed_over_and_a_named_one_is_a_problem() {
    let folder = folder(&[
        ("values.yaml", b"replicas: 3\nkind: StatefulSet\n"),
        ("compose.yaml", b"services: {a: 1}\nservices: {b: 2}\n"),
        ("mixed.yaml", format!("{SERVICE}---\nreplicas: 3\n").as_bytes()),
    ]);
    let not = "not a Kubernetes object: it has no apiVersion and kind";
    let (code, report) = as_json(folder.path(), &["-v", "."]);
    assert_eq!((code, problems(&report)), (2, vec![format!("mixed.yaml:5:1 {not}")]));
    assert_eq!(report["summary"]["files"], 1);
    let notes: Vec<_> = report["notes"].as_array().unwrap().iter().map(|note| note["file"].as_str().unwrap()).collect();
    assert_eq!(notes, ["compose.yaml", "values.yaml"]);
    let (code, report) = as_json(folder.path(), &["values.yaml"]);
    assert_eq!((code, problems(&report)), (2, vec![format!("values.yaml:1:1 {not}")]));
}

#[test]
fn standard_input_and_lists_are_read() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}},
        {"apiVersion": "batch/v1beta1", "kind": "CronJob", "metadata": {"name": "c"}},
    ]});
    let text = serde_json::to_string_pretty(&list).unwrap();
    let (code, report) = with_stdin(&["check", "--format", "json", "-"], text.as_bytes());
    let report: Value = serde_json::from_str(&report).unwrap();
    let finding = &report["findings"][0];
    let line = text.lines().position(|line| line.contains("batch/v1beta1")).unwrap() + 1;
    assert_eq!((code, &finding["file"], &finding["line"]), (1, &json!("-"), &json!(line)), "{report:#}");
    assert_eq!(report["summary"]["objects"], 2);

    let (code, text) = with_stdin(&["check", "-"], REMOVED.as_bytes());
    assert!(code == 1 && text.starts_with("<stdin>:1:1: error["), "{text}");
    // What fails before the pipe must not look sound.
    assert_eq!(with_stdin(&["check", "-"], b"").0, 2);
}

#[test]
fn namesakes_are_both_judged_and_told_on_request() {
    let folder = folder(&[("dev.yaml", REMOVED.as_bytes()), ("prod.yaml", REMOVED.as_bytes())]);
    let (code, report) = as_json(folder.path(), &["-v", "."]);
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["policy"] == "quorate");
    let files: Vec<&str> = findings.map(|finding| finding["file"].as_str().unwrap()).collect();
    assert_eq!((code, files), (1, vec!["dev.yaml", "prod.yaml"]));
    let note = report["notes"].as_array().unwrap().iter().find(|note| note["file"] == "dev.yaml").unwrap();
    assert_eq!(note["message"], "defined again in prod.yaml:1, which is the one that look-ups see");
    let (_, text) = quorate(folder.path(), &["check", "."]);
    assert!(text.contains("note: 1 object is defined again later"), "{text}");
}

#[test]
fn how_a_judgement_came_about_is_told_on_request() {
    let set = "apiVersion: apps/v1
kind: StatefulSet
metadata: { name: store }
spec:
  replicas: 4
  serviceName: store
  selector: { matchLabels: { app: store } }
  template:
    metadata: { labels: { app: store } }
    spec:
      containers: [{ name: minio, image: 'minio/minio:latest', ports: [{ containerPort: 9000, hostPort: 9000 }] }]
";
    let folder = folder(&[("minio.yaml", set.as_bytes())]);
    let (_, text) = quorate(folder.path(), &["check", "-v", "minio.yaml"]);
    let told = "minio.yaml:1:1: note: StatefulSet store: its members do not vote (none), by the catalogue: image minio/minio:latest is MinIO\n";
    assert_eq!(text.matches(told).count(), 1, "{text}");
    assert!(!quorate(folder.path(), &["check", "minio.yaml"]).1.contains("note:"));
}

#[test]
fn control_characters_of_the_input_never_reach_the_terminal() {
    let text = "apiVersion: policy/v1beta1 # \u{202e}reversed\nkind: PodDisruptionBudget\n\
metadata: { name: \"a\\e]0;title\\a\\n\\u009b31mb\" }\n";
    let folder = folder(&[("old\u{1b}[2J.yaml", text.as_bytes()), ("bad\u{7}.yaml", b"\"\\e[31m\": [")]);
    for format in ["human", "json"] {
        let (code, text) = quorate(folder.path(), &["check", "-v", "--format", format, "."]);
        assert_eq!(code, 2);
        let raw = |character: char| character != '\n' && (character.is_control() || character == '\u{202e}');
        assert!(!text.contains(raw), "{text:?}");
        assert!(text.contains("removed-api-version"), "{text:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut text = String::new();
    for number in 0..3000 {
        writeln!(text, "---\napiVersion: batch/v1beta1\nkind: CronJob\nmetadata: {{ name: c{number} }}").unwrap();
    }
    let folder = folder(&[("many.yaml", text.as_bytes())]);
    let mut child =
        command(folder.path(), &["check", "many.yaml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(1), ""));
}

#[test]
fn the_report_is_the_same_in_every_run() {
    let files: Vec<(String, String)> = (0..40)
        .map(|file| {
            let budgets = (0..5).map(|number| REMOVED.replace("old", &format!("b{file}-{number}")));
            (format!("{file}.yaml"), budgets.collect::<Vec<_>>().join("---\n"))
        })
        .collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let folder = folder(&files);
    let first = quorate(folder.path(), &["check", "."]);
    assert!(first.1.contains("40 files, 200 objects: 200 errors"), "{}", first.1);
    for _ in 0..3 {
        assert_eq!(quorate(folder.path(), &["check", "."]), first);
    }
}
