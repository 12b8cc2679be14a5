//! What a container sets aside for a heap or a cache, which must leave room under its memory limit.

use policy::{Cluster, Finding, Problem};
use workload::catalogue::{self, ContainerFacts, Setting};
use workload::container::{Container, EnvVar, expand};
use workload::quantity::Quantity;
use workload::texts::join;
use workload::{Malformed, Path};

use crate::{quoted, written};

/// The flag of the start script of Kubernetes' own `ZooKeeper` image; others have taken it over, so that it counts
/// whatever the image is called.
const HEAP_FLAG: &str = "--heap";

/// The option of older JVMs that has no percentage.
const MAX_RAM_FRACTION: &str = "-XX:MaxRAMFraction";

/// Whose word counts, in ascending order: JVMs read one variable before the command line and one after it, and start
/// scripts put the others on it. A size counts before a share, wherever each stands
/// (<https://docs.oracle.com/en/java/javase/21/docs/specs/man/java.html>, <https://bugs.openjdk.org/browse/JDK-4971166>).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    ToolOptions,
    Variable,
    CommandLine,
    JavaOptions,
}

/// How much is set aside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Bytes(i64),
    /// Thousandths of the memory limit.
    Share(i64),
    /// Something that cannot be known here, such as `-Xmx${HEAP}`.
    Unknown,
}

/// What was found last, of what counts most.
#[derive(Clone, Copy)]
struct Found {
    is_share: bool,
    rank: Rank,
    /// In thousandths of a byte, so that shares are exact; absent where it is not known.
    amount: Option<i64>,
    /// As it was written.
    text: &'static str,
    path: Path,
}

struct Search<'a> {
    /// The memory limit in bytes.
    limit: i64,
    /// Flags of the command line whose value is a size; those of one system add up.
    flags: Vec<&'static str>,
    found: Option<Found>,
    flagged: Option<Found>,
    /// Whether what is read has the values of variables in it.
    refers: bool,
    /// The word before the one that is read: a flag stands before its value.
    before: &'a str,
}

/// What it may cost to find the values of variables, in all containers of a pod: see [`expand`].
pub(crate) const BUDGET: usize = 1 << 20;

/// What a look-up costs of that: an object is worth fifteen of them.
const LOOKUP: usize = BUDGET / 16;

/// How many bytes a mebibyte has.
pub(crate) const MEBI: i64 = 1 << 20;

/// Tells a heap that leaves less than `room` hundredths of `limit`.
#[inline(never)]
pub(crate) fn judge(
    container: &Container<'_>,
    limit: &Quantity,
    room: i32,
    cluster: &Cluster<'_>,
    budget: &mut usize,
) -> Result<Option<Finding>, Malformed> {
    let percent = 100 - i64::from(room);
    let share = 10 * percent;
    // Whoever may use a million gigabytes, more than 64 bits of such parts, may have any heap.
    let Some((bytes, most)) = limit.whole().and_then(|bytes| Some((bytes, bytes.checked_mul(share)?))) else {
        return Ok(None);
    };
    let Some(found) = search(container, bytes, cluster, budget)? else { return Ok(None) };
    let Some(amount) = found.amount.filter(|amount| *amount > most) else { return Ok(None) };
    let (room, percent) = (i64::from(room).to_string(), percent.to_string());
    let name = container.name;
    let reason = [&quoted(name), " must leave ", &room, "% of its memory limit, ", written(limit), ", beside the heap"];
    let most = most.checked_div(1000 * MEBI).unwrap_or(0).to_string();
    let least = amount.saturating_sub(1).checked_div(share * MEBI).unwrap_or(0).saturating_add(1).to_string();
    let advice = if found.text.starts_with(MAX_RAM_FRACTION) {
        join(&["set -XX:MaxRAMPercentage=", &percent, " instead"], "")
    } else if found.is_share {
        join(&["lower it to ", &percent, "% or less"], "")
    } else {
        join(&["lower it to ", &most, "Mi or less, or raise the memory limit to ", &least, "Mi"], "")
    };
    Ok(Some(
        Finding::error("heap-without-room", found.path, Problem::Invalid(found.text.into()), join(&reason, ""))
            .about(name)
            .in_container(name, container.image)
            .measure(amount.checked_div(bytes).unwrap_or(i64::MAX))
            .why("threads, code, buffers and the page cache need memory too, or else the kernel kills the container")
            .advise(advice),
    ))
}

fn search(
    container: &Container<'_>,
    limit: i64,
    cluster: &Cluster<'_>,
    budget: &mut usize,
) -> Result<Option<Found>, Malformed> {
    let mut flags = vec![HEAP_FLAG];
    if let Some(value) = container.node.value()
        && let Some(system) = catalogue::system_of(&ContainerFacts::read(value))
    {
        for fact in system.heap() {
            if let Setting::Flag(flag) = fact.setting {
                flags.push(flag);
            }
        }
    }
    let mut search = Search { limit, flags, found: None, flagged: None, refers: false, before: "" };
    let mut variables = container.env()?;
    for index in 0..variables.len() {
        // A value can refer to those before it.
        let Some((variable, before)) = variables.get_mut(..=index).and_then(<[_]>::split_last_mut) else { break };
        let (field, value) = match variable.value {
            Some(value) => ("value", Some(expand(value, before, budget))),
            None => ("valueFrom", from_config_map(variable, cluster, budget)?),
        };
        variable.value = value;
        let (name, path) = (variable.name, variable.node.path().field(field));
        // Of several with one name, the last counts.
        let is_last = variables.iter().skip(index + 1).all(|later| later.name != name);
        let Some(text) = value.filter(|_| is_last) else { continue };
        let rank = match name {
            "JAVA_TOOL_OPTIONS" => Rank::ToolOptions,
            "_JAVA_OPTIONS" => Rank::JavaOptions,
            _ => Rank::Variable,
        };
        search.before = "";
        match size_of(name, text.trim_ascii()).filter(|_| is_heap_variable(name)) {
            Some(size) => search.take(size, rank, text, path),
            None => search.read(text, rank, path),
        }
    }
    search.before = "";
    for list in ["command", "args"] {
        for item in container.node.items_at(list)? {
            let text = item.string()?.unwrap_or_default();
            let expanded = expand(text, &variables, budget);
            search.refers = expanded != text;
            search.read(expanded, Rank::CommandLine, item.path());
        }
    }
    Ok(search.flagged.or(search.found))
}

/// The value that a `ConfigMap` has for a variable, where the variable's name promises a heap, and the cluster tells. Nobody
/// has to let this policy read every `ConfigMap`: what it cannot look up is not known.
#[inline(never)]
fn from_config_map(
    variable: &EnvVar<'_>,
    cluster: &Cluster<'_>,
    budget: &mut usize,
) -> Result<Option<&'static str>, Malformed> {
    let name = variable.name;
    if !["OPTS", "OPTIONS", "JVMFLAGS"].iter().any(|ending| name.ends_with(ending)) && !is_heap_variable(name) {
        return Ok(None);
    }
    let reference = variable.node.dig("valueFrom.configMapKeyRef")?;
    if reference.is_absent() {
        return Ok(None);
    }
    let (name, key) = (reference.text_at("name")?, reference.text_at("key")?);
    *budget = budget.saturating_sub(LOOKUP);
    // The API server checks names after mutating policies have seen them, and clients put them into a path.
    if *budget == 0 || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        return Ok(None);
    }
    let Ok(Some(map)) = cluster.get("v1", "ConfigMap", name) else { return Ok(None) };
    let value = map.get("data").and_then(|data| data.get(key)?.as_str());
    Ok(value.map(|value| &*value.to_owned().leak()))
}

impl<'a> Search<'a> {
    /// Reads the words of `text`, one after the other.
    #[inline(never)]
    fn read(&mut self, text: &'a str, rank: Rank, path: Path) {
        // Of several options in one text, the last counts, and a size before a share.
        let mut last: Option<(Size, &str, &str)> = None;
        let is_separator =
            |c: char| c.is_ascii_whitespace() || matches!(c, '=' | ';' | '&' | '|' | '(' | ')' | '"' | '\'' | '`');
        for word in text.split(is_separator) {
            if word.is_empty() {
                continue;
            }
            let before = self.before;
            if let Some(size) = word.strip_prefix("-Xmx") {
                last = Some((bytes(size, "").unwrap_or(Size::Unknown), "", word));
            } else if before == "-XX:MaxHeapSize" {
                last = Some((bytes(word, "").unwrap_or(Size::Unknown), before, word));
            } else if let Some(size) = jvm_share(before, word, self.limit) {
                if last.is_none_or(|(size, ..)| matches!(size, Size::Share(_))) {
                    last = Some((size, before, word));
                }
            } else if rank == Rank::CommandLine
                && self.flags.contains(&before)
                && let Some(size) = size_of(before, word)
            {
                self.add(size, &join(&[before, word], "="), path);
            }
            self.before = word;
        }
        if let Some((size, before, word)) = last {
            let separator = if before.is_empty() { "" } else { "=" };
            self.take(size, rank, &join(&[before, word], separator), path);
        }
    }

    /// Keeps what counts more than what was found before.
    #[inline(never)]
    fn take(&mut self, size: Size, rank: Rank, text: &str, path: Path) {
        let mut new = self.found(size, rank, text, path);
        // Told where it is written: `java $(JAVA_OPTS)` says nothing of it.
        if let Some(old) = self.found.filter(|old| self.refers && old.text == new.text) {
            new.path = old.path;
        }
        let is_kept = self.found.is_some_and(|old| {
            let order = (!old.is_share, old.rank).cmp(&(!new.is_share, new.rank));
            // Variables may be for different processes: the largest heap counts. On the command line the last does.
            order.is_gt() || (order.is_eq() && rank != Rank::CommandLine && old.amount >= new.amount)
        });
        if !is_kept {
            self.found = Some(new);
        }
    }

    /// Adds the value of a flag to those of the others.
    #[inline(never)]
    fn add(&mut self, size: Size, text: &str, path: Path) {
        let mut new = self.found(size, Rank::CommandLine, text, path);
        if let Some(old) = self.flagged {
            new.is_share &= old.is_share;
            new.amount = new.amount.zip(old.amount).map(|(new, old)| new.saturating_add(old));
            new.text = String::leak(join(&[old.text, text], " "));
            new.path = old.path;
        }
        self.flagged = Some(new);
    }

    fn found(&self, size: Size, rank: Rank, text: &str, path: Path) -> Found {
        let amount = match size {
            Size::Bytes(bytes) => Some(bytes.saturating_mul(1000)),
            Size::Share(thousandths) => Some(self.limit.saturating_mul(thousandths)),
            Size::Unknown => None,
        };
        let is_share = matches!(size, Size::Share(_));
        // Never given back, as the pieces of a path are not.
        Found { is_share, rank, amount, text: String::leak(text.to_owned()), path }
    }
}

/// What a JVM that is given no size takes at least as the largest heap, in bytes: 96 mebibytes and what its longer addresses
/// cost. Where half of the memory is less (`MinRAMPercentage`), that share counts instead of `MaxRAMPercentage`
/// (`Arguments::set_heap_size` in `src/hotspot/share/runtime/arguments.cpp` of the JDK, and `MaxHeapSize` in `gc_globals.hpp`).
const SMALL_HEAP: i64 = (96 * MEBI * 13) / 10;

/// The share of `limit` that an option of the JVM sets, if it is one of those that count under this limit. Before Java 10
/// there were only fractions: a `MaxRAMFraction` of 2 is a half.
#[inline(never)]
fn jvm_share(option: &str, text: &str, limit: i64) -> Option<Size> {
    let is_small = limit < 2 * SMALL_HEAP;
    let size = match option {
        "-XX:MinRAMPercentage" if is_small => share(text, 10),
        "-XX:MaxRAMPercentage" if !is_small => share(text, 10),
        MAX_RAM_FRACTION if !is_small => match bytes(text, "") {
            Some(Size::Bytes(parts)) => 1000_i64.checked_div(parts).map(Size::Share),
            _ => None,
        },
        // Of which all shares are then taken, whatever the limit is.
        "-XX:MaxRAM" => None,
        _ => return None,
    };
    Some(size.unwrap_or(Size::Unknown))
}

/// Whether the catalogue knows this variable to hold the size of a heap. Its name is the system's own, so that it counts
/// whatever the image is called.
#[inline(never)]
fn is_heap_variable(name: &str) -> bool {
    for system in catalogue::SYSTEMS {
        for fact in system.heap() {
            if matches!(fact.setting, Setting::Env(own) if own == name) {
                return true;
            }
        }
    }
    false
}

/// What `text` says as the value of the flag or the variable `name`. A number alone is in the unit that the name ends with;
/// else one below 1 is a share, as `CockroachDB` reads `.25`, and one that is too small for a heap in bytes is in mebibytes.
fn size_of(name: &str, text: &str) -> Option<Size> {
    if let Some(percent) = text.strip_suffix('%') {
        return share(percent, 10);
    }
    if name.ends_with("GB") {
        return bytes(text, "Gi");
    }
    let Some(Size::Bytes(number)) = bytes(text, "") else { return None };
    if number <= 1 && text.contains('.') {
        return share(text, 1000);
    }
    bytes(text, if number < MEBI { "Mi" } else { "" })
}

/// How sizes are written, in lower case, and the same for Kubernetes. To a JVM a megabyte has 1024 kilobytes.
const UNITS: [(&str, &str); 13] = [
    ("b", ""),
    ("k", "Ki"),
    ("m", "Mi"),
    ("g", "Gi"),
    ("t", "Ti"),
    ("kib", "Ki"),
    ("mib", "Mi"),
    ("gib", "Gi"),
    ("tib", "Ti"),
    ("kb", "k"),
    ("mb", "M"),
    ("gb", "G"),
    ("tb", "T"),
];

/// The size in `text`, where a number alone is in the unit `plain`.
#[inline(never)]
fn bytes(text: &str, plain: &str) -> Option<Size> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.to_ascii_lowercase();
    let unit = match UNITS.iter().find(|(own, _)| *own == unit) {
        Some((_, unit)) => unit,
        None if unit.is_empty() => plain,
        None => return None,
    };
    if number.is_empty() {
        return None;
    }
    // What needs more than 64 bits fits nowhere.
    Some(Size::Bytes(Quantity::parse(&join(&[number, unit], "")).ok()?.whole().unwrap_or(i64::MAX)))
}

/// The share in `text`: 1 of it is so many `thousandths` of the whole, ten for a percentage.
fn share(text: &str, thousandths: u32) -> Option<Size> {
    let share = Quantity::parse(text).ok()?.times(thousandths).whole()?;
    Some(Size::Share(share))
}
