//! What one evaluation may use, and how it is told that it used more.

use std::fmt;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What one evaluation of one policy may use. An evaluation is a call with all that it needs: a fresh instance, its
/// initialisation and the call itself.
///
/// ```
/// use quorate::engine::Limits;
/// use std::time::Duration;
///
/// let limits = Limits { time: Duration::from_secs(1), ..Limits::default() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall time. 5 s by default: the policy-server gives 2 s, but a build machine is often slower and busier.
    pub time: Duration,
    /// Bytes of all memories of an instance together. 256 MiB by default; the policy-server has no limit but the 4 GiB
    /// that a module can address.
    pub memory: u64,
    /// Elements of all tables of an instance together. 1,000,000 by default.
    pub table_elements: u64,
    /// Memories and tables, each, that a module may define. 64 by default.
    pub definitions: u32,
    /// Bytes of an answer, or of the text of an error. 16 MiB by default.
    pub response: u64,
    /// Calls to the host, look-ups and log lines together. 10,000 by default.
    pub host_calls: u64,
    /// Bytes that these calls carry, questions and answers together. 256 MiB by default.
    pub host_bytes: u64,
    /// Bytes of the stack. 512 KiB by default, as in the policy-server; at most [`Limits::MAX_STACK`].
    pub stack: usize,
    /// Bytes of a module's file. 64 MiB by default: compiling cannot be interrupted.
    pub module: u64,
    /// Bytes of memory above which an instance is not used again. 8 MiB by default: memory never shrinks, and starting
    /// anew costs less than a tenth of a millisecond.
    pub retained_memory: u64,
}

impl Limits {
    /// A guest runs on the stack of the thread that calls it, and Rust gives a thread 2 MiB.
    pub const MAX_STACK: usize = 1 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(5),
            memory: 256 * MIB,
            table_elements: 1_000_000,
            definitions: 64,
            response: 16 * MIB,
            host_calls: 10_000,
            host_bytes: 256 * MIB,
            stack: 512 << 10,
            module: 64 * MIB,
            retained_memory: 8 * MIB,
        }
    }
}

/// A limit that was exceeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// [`Limits::time`]
    #[error("the time limit of {} for one evaluation", Seconds(*.0))]
    Time(Duration),
    /// [`Limits::memory`]
    #[error("the memory limit of {}: it wanted {}", Bytes(*.allowed), Bytes(*.wanted))]
    Memory {
        /// The limit, in bytes.
        allowed: u64,
        /// All that the instance would have had, in bytes.
        wanted: u64,
    },
    /// [`Limits::table_elements`]
    #[error("the limit of {allowed} table elements: it wanted {wanted}")]
    TableElements {
        /// The limit.
        allowed: u64,
        /// All that the instance would have had.
        wanted: u64,
    },
    /// [`Limits::definitions`]
    #[error("the limit of {allowed} {what}: it defines {wanted}")]
    Definitions {
        /// `memories` or `tables`.
        what: &'static str,
        /// The limit.
        allowed: u32,
        /// How many the module defines.
        wanted: u32,
    },
    /// [`Limits::response`]
    #[error("the limit of {} for an answer: it has {}", Bytes(*.allowed), Bytes(*.wanted))]
    Response {
        /// The limit, in bytes.
        allowed: u64,
        /// What the guest claimed, in bytes.
        wanted: u64,
    },
    /// [`Limits::host_calls`]
    #[error("the limit of {0} calls to the host in one evaluation")]
    HostCalls(u64),
    /// [`Limits::host_bytes`]
    #[error("the limit of {} carried by calls to the host in one evaluation", Bytes(*.0))]
    HostBytes(u64),
    /// [`Limits::stack`]
    #[error("the stack limit of {}; its recursion may be endless", Bytes(*.0))]
    Stack(u64),
    /// [`Limits::module`]
    #[error("the limit of {} for a module: it has {}", Bytes(*.allowed), Bytes(*.wanted))]
    Module {
        /// The limit, in bytes.
        allowed: u64,
        /// The module's size, in bytes.
        wanted: u64,
    },
}

impl Limit {
    /// The name of the field of [`Limits`], so that a message can say what to raise.
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Time(_) => "time",
            Self::Memory { .. } => "memory",
            Self::TableElements { .. } => "table_elements",
            Self::Definitions { .. } => "definitions",
            Self::Response { .. } => "response",
            Self::HostCalls(_) => "host_calls",
            Self::HostBytes(_) => "host_bytes",
            Self::Stack(_) => "stack",
            Self::Module { .. } => "module",
        }
    }
}

/// A size in the largest unit that gives a whole number; above a mebibyte, one decimal will do.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= MIB && bytes.is_multiple_of(MIB) => write!(f, "{} MiB", bytes / MIB),
            bytes if bytes >= KIB && bytes.is_multiple_of(KIB) && bytes < MIB => write!(f, "{} KiB", bytes / KIB),
            // Rounded up, so that what exceeds a limit never reads like the limit.
            bytes if bytes >= MIB => {
                let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(MIB));
                write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
            }
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// `5 s`, `1.5 s`, `100 ms`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{} s", self.0.as_secs_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_as_people_write_them() {
        let said =
            [0, 1023, 1024, 1025, 512 * KIB, MIB, MIB + 1, 16 * MIB, u64::MAX].map(|size| Bytes(size).to_string());
        let expected = [
            "0 bytes",
            "1023 bytes",
            "1 KiB",
            "1025 bytes",
            "512 KiB",
            "1 MiB",
            "1.1 MiB",
            "16 MiB",
            "17592186044416.0 MiB",
        ];
        assert_eq!(said, expected);
        let said = [100, 5_000, 1_500].map(|ms| Seconds(Duration::from_millis(ms)).to_string());
        assert_eq!(said, ["100 ms", "5 s", "1.5 s"]);
    }
}
