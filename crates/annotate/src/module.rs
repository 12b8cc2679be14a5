//! The custom section inside a module.
//!
//! wasmparser finds the sections and validates the module: it is the parser of wasmtime itself, so what passes here is
//! what the host's engine understands, and its handling of hostile input is fuzzed. Only writing is our own: a section
//! is its id, a length and the bytes.

use std::ops::Range;

use wasmparser::{BinaryReaderError, ExternalKind, Parser, Payload, Validator};

use crate::metadata::{ExecutionMode, Metadata, ProtocolVersion};
use crate::problem::{Error, Problem};

/// The name of the section.
pub const SECTION: &str = "io.kubewarden.metadata";

/// Magic number and version; sections begin behind it.
const HEADER: [u8; 8] = *b"\0asm\x01\0\0\0";
const CUSTOM: u8 = 0;

/// Returns the module with `metadata` as its last section, instead of any that it had. All other bytes stay as they
/// are, so the same input gives the same output, and annotating twice is annotating once.
///
/// The protocol version becomes `v1`, whatever `metadata` says, as with kwctl. Only waPC policies are written.
///
/// # Errors
/// [`Error::NotAModule`], [`Error::BrokenModule`] or [`Error::NotAPolicy`] for the bytes; [`Error::Metadata`] for what
/// [`Metadata::validate`] refuses; [`Error::TooLong`] for more than a section can hold.
pub fn annotate(wasm: &[u8], metadata: &Metadata) -> Result<Vec<u8>, Error> {
    let metadata = Metadata { protocol_version: Some(ProtocolVersion::V1), ..metadata.clone() };
    metadata.validate().map_err(refused)?;
    if metadata.execution_mode != ExecutionMode::KubewardenWapc {
        let reason = "the metadata's executionMode is not `kubewarden-wapc`, and only such policies are annotated here";
        return Err(Error::NotAPolicy(reason.to_owned()));
    }
    check_header(wasm)?;
    let old = survey(wasm)?;

    let json = serde_json::to_vec(&metadata).map_err(|reason| Error::Section(reason.to_string()))?;
    let section = custom_section(SECTION, &json)?;
    let mut annotated = Vec::with_capacity(wasm.len() + section.len());
    let mut kept_to = 0;
    for Range { start, end } in old {
        annotated.extend_from_slice(&wasm[kept_to..start]);
        kept_to = end;
    }
    annotated.extend_from_slice(&wasm[kept_to..]);
    annotated.extend(section);
    Ok(annotated)
}

/// Reads the first `io.kubewarden.metadata`, as the host does: keys that are not known are ignored, what follows the
/// section is not looked at, and whether a host would accept the metadata is for [`Metadata::validate`] to say.
/// `None` when there is no such section.
///
/// # Errors
/// [`Error::NotAModule`] or [`Error::BrokenModule`] for the bytes up to the section, [`Error::Section`] for its content.
pub fn read(wasm: &[u8]) -> Result<Option<Metadata>, Error> {
    check_header(wasm)?;
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CustomSection(section) = payload.map_err(broken)?
            && section.name() == SECTION
        {
            let metadata = serde_json::from_slice(section.data());
            return metadata.map(Some).map_err(|reason| Error::Section(reason.to_string()));
        }
    }
    Ok(None)
}

/// Tells apart what people pass by mistake, before the parser calls it all bad magic.
fn check_header(wasm: &[u8]) -> Result<(), Error> {
    let what = match wasm {
        [] => "the file is empty",
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => {
            "it is a component; build the policy for wasm32-wasip1, which gives a module"
        }
        [b'\0', b'a', b's', b'm', ..] => "it ends within its header, or is of an unknown version",
        [b'(', b'm', b'o', b'd', ..] => "it is WebAssembly as text; assemble it first",
        [0x1f, 0x8b, ..] => "it is compressed; unpack it first",
        _ => "it does not begin with `\\0asm`",
    };
    Err(Error::NotAModule(what))
}

/// Checks that the module is sound and a policy; gives the spans of its old metadata sections, in order.
fn survey(wasm: &[u8]) -> Result<Vec<Range<usize>>, Error> {
    Validator::new().validate_all(wasm).map_err(broken)?;

    let mut old = Vec::new();
    let mut exports = Exports::default();
    // A payload's range leaves out the section's id and length. Sections stand wall to wall, so the end of the one before
    // is the start of this one, however its length is written.
    let mut start = HEADER.len();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(broken)?;
        match &payload {
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export.map_err(broken)?;
                    exports.note(export.name, export.kind)?;
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    if import.map_err(broken)?.module == "kubewarden:javy/host" {
                        let reason = "it imports `kubewarden:javy/host`, as JavaScript policies do; kwctl annotate rewrites that";
                        return Err(Error::NotAPolicy(reason.to_owned()));
                    }
                }
            }
            _ => {}
        }
        if let Some((_, range)) = payload.as_section() {
            if matches!(&payload, Payload::CustomSection(section) if section.name() == SECTION) {
                old.push(start..range.end);
            }
            start = range.end;
        }
    }
    exports.suffice()?;
    Ok(old)
}

/// Which exports that a host needs were met.
#[derive(Default)]
struct Exports {
    call: bool,
    init: bool,
    memory: bool,
}

impl Exports {
    fn note(&mut self, name: &str, kind: ExternalKind) -> Result<(), Error> {
        match (name, kind) {
            ("__guest_call", ExternalKind::Func) => self.call = true,
            ("wapc_init" | "_start", ExternalKind::Func) => self.init = true,
            ("memory", ExternalKind::Memory) => self.memory = true,
            // kwctl tells Rego policies by this prefix.
            (name, _) if name.starts_with("opa_") => {
                let reason =
                    format!("it exports `{name}`, as policies written in Rego do; they are not annotated here");
                return Err(Error::NotAPolicy(reason));
            }
            _ => {}
        }
        Ok(())
    }

    fn suffice(&self) -> Result<(), Error> {
        let missing = match self {
            Self { call: false, .. } => "function `__guest_call`, by which the host calls a policy",
            Self { init: false, .. } => "function `wapc_init` or `_start`, which registers what can be called",
            Self { memory: false, .. } => "memory named `memory`, through which the host passes requests",
            _ => return Ok(()),
        };
        Err(Error::NotAPolicy(format!("it exports no {missing}")))
    }
}

/// A whole custom section: id, length, name, content.
fn custom_section(name: &str, content: &[u8]) -> Result<Vec<u8>, Error> {
    let too_long = |_| Error::TooLong(content.len());
    let mut body = leb128(u32::try_from(name.len()).map_err(too_long)?);
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content);

    let mut section = vec![CUSTOM];
    section.extend(leb128(u32::try_from(body.len()).map_err(too_long)?));
    section.extend(body);
    Ok(section)
}

/// An unsigned LEB128 number in as few bytes as it takes: seven bits each, the lowest first, the top bit set on all but
/// the last.
fn leb128(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low & 0x7f);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn refused(problems: Vec<Problem>) -> Error {
    Error::Metadata { file: "metadata".to_owned(), problems }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn broken(reason: BinaryReaderError) -> Error {
    Error::BrokenModule { offset: reason.offset() as u64, reason: reason.message().to_owned() }
}

#[cfg(test)]
mod tests {
    //! The bytes of a section; what is done with whole modules is in `crate::tests`.

    use super::{custom_section, leb128};

    #[test]
    fn a_number_takes_as_few_bytes_as_it_can() {
        let cases: [(u32, &[u8]); 8] = [
            (0, &[0x00]),
            (1, &[0x01]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 0x01]),
            (624_485, &[0xe5, 0x8e, 0x26]),
            (u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (number, bytes) in cases {
            assert_eq!(leb128(number), bytes, "{number}");
        }
    }

    #[test]
    fn a_section_counts_the_length_of_its_name() {
        assert_eq!(custom_section("ab", b"xyz").unwrap(), b"\0\x06\x02abxyz");
        assert_eq!(custom_section("", b"").unwrap(), b"\0\x01\0");
    }

    #[test]
    fn a_parser_finds_the_content_at_every_edge_of_the_length() {
        // The name takes two bytes of the length, itself and its own length.
        for length in [126, 127, 128, 129, 16_382, 16_383, 16_384, 16_385, 2_097_151, 2_097_152] {
            let content = vec![b'x'; length - 2];
            let mut module = b"\0asm\x01\0\0\0".to_vec();
            module.extend(custom_section("n", &content).unwrap());
            let found = wasmparser::Parser::new(0).parse_all(&module).find_map(|payload| match payload.unwrap() {
                wasmparser::Payload::CustomSection(section) => Some((section.name().to_owned(), section.data().len())),
                _ => None,
            });
            assert_eq!(found, Some(("n".to_owned(), length - 2)));
        }
    }
}
