//! Turns `catalogue.toml` into the statics that `src/catalogue.rs` includes.
//!
//! A module must not parse text when it starts; and a row with a fact that has no source must not build.

#![expect(clippy::format_push_string, reason = "text that the compiler reads once: one more allocation is no matter")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

#[path = "build/schema.rs"]
#[allow(dead_code, reason = "what only the tests read")]
mod schema;

use schema::{Asks, Catalogue, Condition, Model, Setting, System};

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=catalogue.toml");
    println!("cargo::rerun-if-changed=build/schema.rs");
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("cargo::error=catalogue.toml: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), String> {
    let folder = env::var("CARGO_MANIFEST_DIR").map_err(|error| error.to_string())?;
    let output = env::var("OUT_DIR").map_err(|error| error.to_string())?;
    let text = fs::read_to_string(Path::new(&folder).join("catalogue.toml")).map_err(|error| error.to_string())?;
    let catalogue: Catalogue = toml::from_str(&text).map_err(|error| error.to_string())?;
    let rust = Generator::new(&catalogue).statics(&catalogue)?;
    fs::write(Path::new(&output).join("catalogue.rs"), rust).map_err(|error| error.to_string())
}

/// Writes Rust, and remembers which sources are used.
struct Generator<'a> {
    sources: BTreeMap<&'a str, usize>,
    used: BTreeSet<String>,
}

impl<'a> Generator<'a> {
    fn new(catalogue: &'a Catalogue) -> Self {
        let sources = catalogue.source.keys().enumerate().map(|(index, key)| (key.as_str(), index)).collect();
        Self { sources, used: BTreeSet::new() }
    }

    fn statics(mut self, catalogue: &Catalogue) -> Result<String, String> {
        let mut tables: BTreeMap<(&str, &str), String> = BTreeMap::new();
        let mut systems = String::new();
        let mut ids = BTreeSet::new();
        for (row, system) in catalogue.system.iter().enumerate() {
            if !ids.insert(&system.id) {
                return Err(format!("two rows have the id {}", system.id));
            }
            let in_row = |problem: String| format!("row {}: {problem}", system.id);
            systems += &self.system(row, system).map_err(in_row)?;
            for (table, kind, entry) in self.facts(system).map_err(in_row)? {
                *tables.entry((table, kind)).or_default() += &entry;
            }
        }
        let mut rust = format!(
            "/// Every system, in the order in which rows are tried.\npub static SYSTEMS: &[System] = &[{systems}];\n"
        );
        for ((table, kind), entries) in tables {
            writeln!(rust, "static {table}: &[{kind}] = &[{entries}];").map_err(|error| error.to_string())?;
        }
        rust += "static SOURCES: &[Source] = &[";
        for (key, source) in &catalogue.source {
            if !self.used.contains(key) {
                return Err(format!("source {key} is used by no row"));
            }
            write!(
                rust,
                "Source {{ url: {:?}, section: {:?}, version: {:?} }},",
                source.url, source.section, source.version
            )
            .map_err(|error| error.to_string())?;
        }
        rust += "];\n";
        Ok(rust)
    }

    fn system(&mut self, row: usize, system: &System) -> Result<String, String> {
        let System { id, name, group, .. } = system;
        if system.group.is_some() && system.model == Model::None {
            return Err("a system that does not vote has no groups".to_owned());
        }
        let model = match system.model {
            Model::Majority => "Majority",
            Model::None => "None",
        };
        let mut rules = Vec::new();
        for rule in &system.rule {
            if rule.images.is_empty() {
                return Err("a rule names no image".to_owned());
            }
            match &rule.source {
                Some(source) => drop(self.source(source)?),
                None if rule.when.is_empty() && rule.unless.is_empty() => {}
                None => return Err(format!("the conditions for {:?} have no source", rule.images)),
            }
            let images = rule.images.iter().map(|image| plain(image, " ")).collect::<Result<Vec<_>, _>>()?;
            let mut text = images.join(" ");
            for (sign, conditions) in [('?', &rule.when), ('!', &rule.unless)] {
                for part in conditions {
                    text += &format!("\t{sign}{}", condition(part)?);
                }
            }
            rules.push(text);
        }
        let rules = rules.join("\n");
        Ok(format!(
            "System {{ id: {id:?}, name: {name:?}, model: Model::{model}, group: {group:?}, row: {row}, rules: {rules:?} }},\n"
        ))
    }

    /// The row's entry in each table of facts: the table's name, the type of its entries, the entry.
    fn facts(&mut self, system: &System) -> Result<Vec<(&'static str, &'static str, String)>, String> {
        let mut probes = String::new();
        for probe in &system.probe {
            let handler = match (&probe.http, &probe.exec) {
                (Some(path), None) => format!("Handler::Http({path:?})"),
                (None, Some(words)) => format!("Handler::Exec({words:?})"),
                _ => return Err("a probe needs one of http and exec".to_owned()),
            };
            let asks = match probe.asks {
                Asks::Member => "Member",
                Asks::Quorum => "Quorum",
            };
            let source = self.source(&probe.source)?;
            probes += &format!("ProbeFact {{ handler: {handler}, asks: Asks::{asks}, source: SourceId({source}) }},");
        }
        let liveness = match &system.liveness {
            None => "None".to_owned(),
            Some(liveness) => format!(
                "Some(Liveness {{ advised: {}, note: {:?}, source: SourceId({}) }})",
                liveness.advised,
                liveness.note,
                self.source(&liveness.source)?
            ),
        };
        let (mut paths, mut ports, mut resources) = (String::new(), String::new(), String::new());
        for data in &system.data {
            if !data.path.starts_with('/') {
                return Err(format!("data path {} is not absolute", data.path));
            }
            paths +=
                &format!("DataPath {{ path: {:?}, source: SourceId({}) }},", data.path, self.source(&data.source)?);
        }
        for port in &system.port {
            let source = self.source(&port.source)?;
            ports += &format!("Port {{ name: {:?}, number: {}, source: SourceId({source}) }},", port.name, port.number);
        }
        for resource in &system.resource {
            resources += &format!(
                "CustomResource {{ group: {:?}, kind: {:?}, field: {:?}, source: SourceId({}) }},",
                resource.group,
                resource.kind,
                resource.field,
                self.source(&resource.source)?
            );
        }
        Ok(vec![
            ("WHY", "&str", format!("{:?},", system.why)),
            ("BASIS", "usize", format!("{},", self.source(&system.source)?)),
            ("MEMBERSHIP", "&[SettingFact]", self.settings(&system.membership)?),
            ("HEAP", "&[SettingFact]", self.settings(&system.heap)?),
            ("PROBES", "&[ProbeFact]", format!("&[{probes}],")),
            ("LIVENESS", "Option<Liveness>", format!("{liveness},")),
            ("DATA_PATHS", "&[DataPath]", format!("&[{paths}],")),
            ("PORTS", "&[Port]", format!("&[{ports}],")),
            ("CUSTOM_RESOURCES", "&[CustomResource]", format!("&[{resources}],")),
        ])
    }

    fn settings(&mut self, settings: &[Setting]) -> Result<String, String> {
        let mut entries = String::new();
        for setting in settings {
            let form = match (&setting.flag, &setting.env, &setting.key) {
                (Some(name), None, None) => format!("Flag({name:?})"),
                (None, Some(name), None) => format!("Env({name:?})"),
                (None, None, Some(name)) => format!("Key({name:?})"),
                _ => return Err("a setting needs one of flag, env and key".to_owned()),
            };
            let source = self.source(&setting.source)?;
            entries += &format!("SettingFact {{ setting: Setting::{form}, source: SourceId({source}) }},");
        }
        Ok(format!("&[{entries}],"))
    }

    fn source(&mut self, key: &str) -> Result<usize, String> {
        let index = self.sources.get(key).ok_or_else(|| format!("no source is called {key}"))?;
        self.used.insert(key.to_owned());
        Ok(*index)
    }
}

/// The text of one condition, as `holds` in `src/catalogue.rs` reads it.
fn condition(condition: &Condition) -> Result<String, String> {
    match (&condition.word, &condition.env, &condition.is, condition.lacks.as_slice()) {
        (Some(word), None, None, []) if !word.starts_with('$') => Ok(plain(word, "")?.to_owned()),
        (None, Some(env), None, []) => Ok(format!("${}", plain(env, "=/")?)),
        (None, Some(env), Some(is), []) => Ok(format!("${}={}", plain(env, "=/")?, plain(is, "")?)),
        (None, Some(env), None, lacks) => {
            let lacks = lacks.iter().map(|value| plain(value, "=/")).collect::<Result<Vec<_>, _>>()?;
            Ok(format!("${}/{}", plain(env, "=/")?, lacks.join("/")))
        }
        _ => Err("a condition is `word`, `env`, `env` with `is`, or `env` with `lacks`".to_owned()),
    }
}

/// `text`, which must not have what separates texts in a rule.
fn plain<'a>(text: &'a str, separators: &str) -> Result<&'a str, String> {
    if text.is_empty() || text.contains(['\t', '\n']) || text.contains(|character| separators.contains(character)) {
        return Err(format!("{text:?} must not be empty, nor hold a tab, a line break or one of {separators:?}"));
    }
    Ok(text)
}
