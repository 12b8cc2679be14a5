//! `cargo xtask bench-data`: what is measured with is what it is said to be.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn bench_data(out: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).arg("bench-data").args(args).arg("--out").arg(out).output().unwrap()
}

/// The files by name.
fn written(args: &[&str]) -> BTreeMap<String, String> {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("data");
    let output = bench_data(&out, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let entries = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into(), fs::read_to_string(path).unwrap()))
        .collect()
}

fn count(files: &BTreeMap<String, String>, text: &str) -> usize {
    files.values().map(|file| file.matches(text).count()).sum()
}

#[test]
fn bundles_are_as_many_and_as_big_as_said() {
    let files = written(&["--bundles", "1000"]);
    assert_eq!(files.len(), 100);
    for kind in ["kind: Service\n", "kind: PodDisruptionBudget\n", "kind: StatefulSet\n"] {
        assert_eq!(count(&files, kind), 1000, "{kind}");
    }
    assert_eq!(count(&files, "namespace: team-0\n"), 30, "ten bundles of three objects");
    assert_eq!(count(&files, "namespace: team-99\n"), 30);
    let bytes: usize = files.values().map(String::len).sum();
    assert!((2_550_000..2_750_000).contains(&bytes), "2.6 KB each, but {bytes} for 1000");
    assert_eq!(count(&files, "{"), 0, "a placeholder is left");
}

#[test]
fn every_set_has_a_name_of_its_own() {
    let files = written(&["--bundles", "7", "--per-namespace", "7"]);
    assert_eq!(files.len(), 7);
    assert_eq!(count(&files, "namespace: team-0\n"), 21);
    for number in 0..7 {
        assert_eq!(count(&files, &format!("serviceName: zk-{number}\n")), 1);
    }
}

#[test]
fn the_same_is_written_every_time() {
    let args = ["--bundles", "120", "--broken", "30"];
    assert_eq!(written(&args), written(&args));
}

#[test]
fn as_many_are_broken_as_asked_in_three_ways() {
    let files = written(&["--bundles", "100", "--broken", "30"]);
    assert_eq!(count(&files, "replicas: 4\n"), 10);
    assert_eq!(count(&files, "kind: PodDisruptionBudget\n"), 90);
    assert_eq!(count(&files, "instance: zookeeper\n"), 10);
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("mine"), "mine").unwrap();
    let output = bench_data(folder.path(), &["--bundles", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("is not empty\n"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn none_and_more_than_all_are_refused() {
    let folder = TempDir::new().unwrap();
    for args in [["--bundles", "0", "--broken", "1"], ["--bundles", "1", "--broken", "101"]] {
        let output = bench_data(&folder.path().join("data"), &args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!folder.path().join("data").exists());
    }
}
