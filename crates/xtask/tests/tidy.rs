//! What holds across the whole workspace, and which no compiler checks: form, names, dependencies, licences, cases.
//!
//! ARCHITECTURE.md names these tests as what keeps its invariants.

#![expect(clippy::expect_used, reason = "this is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use corpus::Expect;
use serde_json::Value;

/// As many cases a policy needs at least, README examples not counted: fewer leave its edges untried.
const FEWEST_CASES: usize = 25;

/// Folders of `test-data` that are not the cases of a policy.
const OTHER_DATA: [&str; 4] = ["admission-reviews", "chart", "ensembles", "openapi"];

/// What may be linked, as SPDX names it: nothing that asks more of a distributor than a notice.
const LICENCES: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    // For data: root certificates that the client of the proof names.
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Third-party crates that what runs in a guest may name. What they bring along, the size limit of a module holds.
const GUEST_CRATES: [&str; 6] = ["anyhow", "k8s-openapi", "kubewarden-policy-sdk", "serde", "serde_json", "wapc-guest"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(root()).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Every text file that git tracks or would track, with its name.
fn texts() -> Vec<(String, String)> {
    let listed = run("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let files: BTreeSet<&str> = listed.split_terminator('\0').collect();
    assert!(files.contains("Cargo.toml"), "git lists no Cargo.toml");
    let text = |name: &str| Some((name.to_owned(), String::from_utf8(fs::read(root().join(name)).ok()?).ok()?));
    files.into_iter().filter_map(text).collect()
}

fn is_rust(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "rs")
}

/// The names of the folders in a folder.
fn folders(of: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(of)).expect(of).map(|entry| entry.expect(of));
    entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().expect(of)).collect()
}

/// Fails with all that is wrong, one a line.
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

// Files.

#[test]
fn every_rust_file_says_first_what_it_is() {
    let rust: Vec<_> = texts().into_iter().filter(|(name, _)| is_rust(name)).collect();
    assert!(rust.len() > 50, "{} files", rust.len());
    let said = |text: &str| text.starts_with("//!") || text.starts_with("#![doc = ");
    none(&rust.into_iter().filter(|(_, text)| !said(text)).map(|(name, _)| name).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let is_word = |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| marks.contains(&word));
    none(&lines_that(|_, line| is_word(line)));
}

#[test]
fn no_file_names_the_machine_that_it_was_written_on() {
    let homes = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
    none(&lines_that(|_, line| {
        homes.iter().any(|home| {
            line.match_indices(home).any(|(at, _)| {
                // Inside a longer path or an address it is another folder.
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_.-}".contains(c))
            })
        })
    }));
}

#[test]
fn text_ends_in_one_newline_and_has_no_trailing_blanks() {
    let kinds = [".rs", ".md", ".toml", ".yml", ".yaml", "Makefile", ".ci/run"];
    // Where the layout itself is what a test is about.
    let free = |name: &str| name.starts_with("crates/") && name.contains("/tests/") && !is_rust(name);
    let wrong = |text: &str| {
        !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n"))
            || text.lines().any(|line| line.ends_with([' ', '\t']))
    };
    let ours = |name: &str| kinds.iter().any(|kind| name.ends_with(kind)) && !free(name);
    none(
        &texts().into_iter().filter(|(name, text)| ours(name) && wrong(text)).map(|(name, _)| name).collect::<Vec<_>>(),
    );
}

#[test]
fn every_link_of_a_page_leads_to_something_that_is_here() {
    let is_page = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "md");
    let pages: Vec<_> = texts().into_iter().filter(|(name, _)| is_page(name)).collect();
    // As GitHub makes them of headings, and those that a page gives itself.
    let anchors = |text: &str| -> BTreeSet<String> {
        let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            words.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
        });
        let given = text.split("<a id=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
        headings.chain(given).collect()
    };
    let (mut links, mut wrong) = (0, Vec::new());
    for (name, text) in &pages {
        let folder = root().join(name).parent().map(Path::to_owned).unwrap_or_default();
        for target in text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)) {
            // Addresses of others, and what the templates fill in.
            if target.contains("://") || target.contains("{{") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { root().join(name) } else { folder.join(file) };
            let holds = |anchor: &str| fs::read_to_string(&file).is_ok_and(|text| anchors(&text).contains(anchor));
            if !file.exists() || !anchor.is_empty() && !holds(anchor) {
                wrong.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(links > 50, "{links} links");
    none(&wrong);
}

/// Where such lines are, with the lock file and generated tables left out.
fn lines_that(wrong: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for (name, text) in texts().iter().filter(|(name, _)| name != "Cargo.lock") {
        let lines = text.lines().enumerate().filter(|(_, line)| wrong(name, line));
        places.extend(lines.map(|(number, line)| format!("{name}:{}: {}", number + 1, line.trim())));
    }
    places
}

// Policies and their cases.

#[test]
fn a_policy_has_one_name_everywhere() {
    let policies = folders("policies");
    assert!(policies.contains("odd-replicas"), "{policies:?}");
    let mut with_cases = folders("test-data");
    with_cases.retain(|name| !OTHER_DATA.contains(&name.as_str()));
    assert_eq!(policies, with_cases, "policies/NAME and test-data/NAME");
    let packages: BTreeSet<String> = Workspace::read()
        .members()
        .filter(|package| package.folder.starts_with("policies/"))
        .map(|package| package.name.clone())
        .collect();
    assert_eq!(policies, packages, "policies/NAME and the packages");
    for policy in &policies {
        for file in ["README.md", "metadata.yml", "src/lib.rs"] {
            assert!(root().join("policies").join(policy).join(file).is_file(), "policies/{policy}/{file}");
        }
    }
}

#[test]
fn every_policy_has_enough_cases_of_both_kinds() {
    let mut wrong = Vec::new();
    for policy in folders("policies") {
        let cases: Vec<_> =
            corpus::cases(&policy).expect("cases").into_iter().filter(|case| case.file.is_some()).collect();
        if cases.len() < FEWEST_CASES {
            wrong.push(format!("test-data/{policy}: {} cases, at least {FEWEST_CASES} are wanted", cases.len()));
        }
        for expect in [Expect::Accept, Expect::Deny] {
            let verbs: &[&str] =
                if expect == Expect::Accept { &["accepts-", "mutates-", "warns-"] } else { &["denies-"] };
            let named: Vec<_> =
                cases.iter().filter(|case| case.header.expect == expect).map(|case| &case.name).collect();
            if named.is_empty() {
                wrong.push(format!("test-data/{policy}: no case {}", verbs.join(" or ")));
            }
            let misnamed = named.into_iter().filter(|name| !verbs.iter().any(|verb| name.starts_with(verb)));
            wrong.extend(
                misnamed.map(|name| format!("test-data/{policy}/{name} must begin with {}", verbs.join(" or "))),
            );
        }
    }
    none(&wrong);
}

#[test]
fn every_case_says_why_it_is_there() {
    let case = |name: &str| {
        let folder = name.strip_prefix("test-data/").and_then(|name| name.split_once('/'));
        folder.is_some_and(|(folder, _)| !OTHER_DATA.contains(&folder))
    };
    let cases: Vec<_> = texts().into_iter().filter(|(name, _)| case(name)).collect();
    assert!(!cases.is_empty());
    none(&cases.into_iter().filter(|(_, text)| !text.starts_with("# ")).map(|(name, _)| name).collect::<Vec<_>>());
}

/// Texts of a policy's source that look like codes, but are names in Kubernetes.
const NO_CODES: [&str; 2] = ["default-scheduler", "ephemeral-storage"];

/// A code is a text in kebab-case in the policy's source. What is not in any case could be wrong without a test telling.
#[test]
fn every_finding_of_a_policy_occurs_in_a_case() {
    let mut wrong = Vec::new();
    for policy in folders("policies") {
        let cases = corpus::cases(&policy).expect("cases");
        let told: BTreeSet<&str> =
            cases.iter().flat_map(|case| &case.header.findings).flat_map(|finding| finding.split(' ')).collect();
        let mut codes = BTreeSet::new();
        let source = format!("policies/{policy}/src/");
        for (_, text) in texts().iter().filter(|(name, _)| name.starts_with(&source)) {
            let rule = text.split("#[cfg(test)]").next().unwrap_or_default();
            codes.extend(rule.lines().flat_map(kebab_texts).map(str::to_owned));
        }
        codes.retain(|code| *code != policy && !NO_CODES.contains(&code.as_str()));
        assert!(!codes.is_empty(), "{policy} has no finding");
        wrong.extend(
            codes
                .iter()
                .filter(|code| !told.contains(code.as_str()))
                .map(|code| format!("test-data/{policy}: no case has `{code}`")),
        );
    }
    none(&wrong);
}

/// The literals of a line of Rust that are two or more lower-case words joined by dashes.
fn kebab_texts(line: &str) -> impl Iterator<Item = &str> {
    let code = if line.trim_start().starts_with("//") { "" } else { line };
    code.split('"').skip(1).step_by(2).filter(|text| {
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
        text.contains('-') && text.split('-').all(is_word)
    })
}

// Dependencies.

struct Package {
    id: String,
    name: String,
    /// From the root; empty for crates from elsewhere.
    folder: String,
    licence: String,
    /// The names of direct dependencies, by kind: normal, build, dev.
    direct: BTreeMap<&'static str, BTreeSet<String>>,
}

/// The packages that Cargo would use, with what each depends on.
struct Workspace {
    packages: BTreeMap<String, Package>,
    /// What a package depends on when it is built, build scripts and tests left out.
    normal: BTreeMap<String, Vec<String>>,
}

impl Workspace {
    fn read() -> Self {
        let text = run(env!("CARGO"), &["metadata", "--offline", "--locked", "--format-version", "1"]);
        let read: Value = serde_json::from_str(&text).expect("JSON");
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let root = text(&read["workspace_root"]) + "/";
        let packages = list(&read["packages"]).into_iter().map(|package| {
            let mut direct: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
            for dependency in list(&package["dependencies"]) {
                let kind = match dependency["kind"].as_str() {
                    Some("build") => "build",
                    Some("dev") => "dev",
                    _ => "normal",
                };
                direct.entry(kind).or_default().insert(text(&dependency["name"]));
            }
            let manifest = text(&package["manifest_path"]);
            let folder = manifest.strip_prefix(&root).unwrap_or_default().trim_end_matches("/Cargo.toml");
            let package = Package {
                id: text(&package["id"]),
                name: text(&package["name"]),
                folder: folder.to_owned(),
                licence: text(&package["license"]),
                direct,
            };
            (package.id.clone(), package)
        });
        let normal = list(&read["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let is_normal =
                    |dependency: &&Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
                (text(&node["id"]), list(&node["deps"]).iter().filter(is_normal).map(|it| text(&it["pkg"])).collect())
            })
            .collect();
        Self { packages: packages.collect(), normal }
    }

    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|package| !package.folder.is_empty())
    }

    /// The names of all that the package `name` links.
    fn links(&self, name: &str) -> BTreeSet<&str> {
        let start = self.members().find(|package| package.name == name).expect(name);
        let (mut seen, mut open) = (BTreeSet::new(), vec![&start.id]);
        while let Some(id) = open.pop() {
            for next in &self.normal[id] {
                if seen.insert(self.packages[next].name.as_str()) {
                    open.push(next);
                }
            }
        }
        seen
    }
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn only_the_checker_knows_the_engine() {
    let workspace = Workspace::read();
    let knows = |package: &&Package| package.direct.values().flatten().any(|name| name.starts_with("wasmtime"));
    let knowing: Vec<_> = workspace.members().filter(knows).map(|package| package.name.as_str()).collect();
    assert_eq!(knowing, ["quorate"]);
}

#[test]
fn the_checker_links_no_policy() {
    let workspace = Workspace::read();
    let mut guests = folders("policies");
    guests.extend(names(&["policy", "workload"]));
    for tool in ["quorate", "annotate", "cluster", "manifest"] {
        let links: Vec<_> = workspace.links(tool).into_iter().filter(|name| guests.contains(*name)).collect();
        assert!(links.is_empty(), "{tool} links {links:?}");
    }
    assert!(workspace.links("quorate").contains("wasmtime"), "nothing was looked at");
}

#[test]
fn the_corpus_is_for_tests_and_chores_only() {
    let workspace = Workspace::read();
    // `make e2e` runs the cases in other programs, `make prove` plays them; nothing of these three is shipped.
    for package in workspace.members().filter(|package| !["e2e", "proof", "xtask"].contains(&package.name.as_str())) {
        for kind in ["normal", "build"] {
            let uses = package.direct.get(kind).is_some_and(|direct| direct.contains("corpus"));
            assert!(!uses, "{} needs corpus as a {kind} dependency", package.name);
        }
    }
}

#[test]
fn guests_name_few_crates() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for package in workspace.members() {
        let mut allowed = match package.name.as_str() {
            "policy" => names(&["workload"]),
            "workload" => BTreeSet::new(),
            _ if package.folder.starts_with("policies/") => names(&["policy", "workload"]),
            _ => continue,
        };
        allowed.extend(names(&GUEST_CRATES));
        let direct = package.direct.get("normal").into_iter().flatten();
        wrong
            .extend(direct.filter(|name| !allowed.contains(*name)).map(|name| format!("{} uses {name}", package.name)));
    }
    none(&wrong);
}

/// Cargo takes the features that all that it is asked to build ask for, and for build scripts others than for programs.
/// Where they differ, the engine and all below it is built a second time, which takes minutes.
#[test]
fn the_engine_is_built_once_for_the_checker_its_build_script_and_the_tests() {
    let features = |packages: &[&str], kinds: &str| -> BTreeSet<String> {
        let mut args =
            vec!["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p} {f}", "--edges", kinds];
        args.extend(packages);
        run(env!("CARGO"), &args).lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
    };
    let package = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    for packages in [&["--workspace"][..], &["--package", "quorate"]] {
        let lines = features(packages, "normal,build");
        assert!(lines.iter().any(|line| line.starts_with("wasmtime v")), "nothing was looked at");
        let names: Vec<String> = lines.iter().map(|line| package(line)).filter(|name| !name.is_empty()).collect();
        let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
        assert!(twice.is_empty(), "{packages:?}: name the features of these in crates/quorate/Cargo.toml: {twice:?}");
    }
    let (checker, tests) = (features(&["--workspace"], "normal,build"), features(&["--workspace"], "normal,build,dev"));
    // What the engine does not link may be built twice.
    let workspace = Workspace::read();
    let linked = workspace.links("quorate");
    let is_linked = |line: &&String| line.split(' ').next().is_some_and(|name| linked.contains(name));
    let only: Vec<_> = checker.difference(&tests).filter(is_linked).collect();
    assert!(only.is_empty(), "with other features in tests, by a dev-dependency: {only:#?}");
}

/// Cargo builds a crate twice where the profile of the build script that uses it differs from that of the program that
/// does: the engine takes minutes, so the two must be the same. `strip` has no place in `build-override`, so that
/// `release` must leave it alone.
#[test]
fn the_engine_has_one_profile_for_the_checker_and_its_build_script() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let settings = |profile: &str| -> Vec<String> {
        let lines = manifest.lines().skip_while(|line| *line != format!("[profile.{profile}]")).skip(1);
        let lines = lines.take_while(|line| !line.starts_with('['));
        lines.filter(|line| line.contains('=') && !line.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(settings("release"), ["codegen-units = 16", "overflow-checks = true"]);
    // A build script is not optimised by default; what checks overflow comes from `release`.
    assert_eq!(settings("release.build-override"), ["opt-level = 3", "codegen-units = 16"]);
}

#[test]
fn every_crate_has_a_licence_that_we_may_link() {
    let workspace = Workspace::read();
    assert!(workspace.packages.len() > 100, "{} packages", workspace.packages.len());
    let refused = workspace.packages.values().filter(|package| !allowed(&package.licence));
    none(&refused.map(|package| format!("{}: `{}`", package.name, package.licence)).collect::<Vec<_>>());
}

/// Whether an SPDX expression can be met by the licences of the list. `A/B` is the old form of `A OR B`.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "\u{1}");
    let mut words = spaced.split_whitespace().peekable();
    let met = any_of(&mut words);
    met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>) -> bool {
    let mut met = all_of(words);
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words);
    }
    met
}

fn all_of(words: &mut Words<'_>) -> bool {
    let mut met = one(words);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words);
    }
    met
}

fn one(words: &mut Words<'_>) -> bool {
    match words.next() {
        Some("(") => {
            let met = any_of(words);
            words.next() == Some(")") && met
        }
        Some(licence) => LICENCES.contains(&licence.replace('\u{1}', " WITH ").as_str()),
        None => false,
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_says() {
    for met in
        ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR GPL-3.0) AND Zlib", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(allowed(met), "{met}");
    }
    for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT)", "MIT WITH LLVM-exception", "OR MIT"] {
        assert!(!allowed(refused), "{refused}");
    }
}
