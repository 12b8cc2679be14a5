//! The imports of waPC, the protocol between Kubewarden's hosts and its policies.
//!
//! Names, types and order of effects are those of the `wapc` crate 2.1 and of wasmtime-provider, which the policy-server uses.

use std::sync::Arc;

use wasmtime::{Caller, Linker, Result};

use super::error::Fault;
use super::limits::Limit;
use super::state::{Guest, State};

const MODULE: &str = "wapc";

type Of<'a> = Caller<'a, State>;

/// Adds the nine functions of the protocol.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    linker
        .func_wrap(MODULE, "__guest_request", guest_request)?
        .func_wrap(MODULE, "__guest_response", guest_response)?
        .func_wrap(MODULE, "__guest_error", guest_error)?
        .func_wrap(MODULE, "__host_call", host_call)?
        .func_wrap(MODULE, "__host_response", host_response)?
        .func_wrap(MODULE, "__host_response_len", |caller: Of| length(caller.data().host_answer.as_deref()))?
        .func_wrap(MODULE, "__host_error", host_error)?
        .func_wrap(MODULE, "__host_error_len", |caller: Of| {
            length(caller.data().host_error.as_ref().map(String::as_bytes))
        })?
        .func_wrap(MODULE, "__console_log", console_log)?;
    Ok(())
}

fn guest_request(mut caller: Of, operation: u32, payload: u32) -> Result<()> {
    let (mut guest, state) = Guest::of(&mut caller, "__guest_request")?;
    guest.write(payload, &state.payload)?;
    guest.write(operation, &state.operation)?;
    Ok(())
}

fn check_length(state: &State, length: u32) -> Result<(), Fault> {
    let (allowed, wanted) = (state.limits.response, u64::from(length));
    if wanted > allowed { Err(Limit::Response { allowed, wanted }.into()) } else { Ok(()) }
}

fn guest_response(mut caller: Of, pointer: u32, length: u32) -> Result<()> {
    let (guest, state) = Guest::of(&mut caller, "__guest_response")?;
    check_length(state, length)?;
    state.response = Some(guest.read(pointer, length)?.to_vec());
    Ok(())
}

fn guest_error(mut caller: Of, pointer: u32, length: u32) -> Result<()> {
    let (guest, state) = Guest::of(&mut caller, "__guest_error")?;
    check_length(state, length)?;
    state.error = Some(guest.read_text(pointer, length)?);
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the protocol has it so")]
fn host_call(
    mut caller: Of,
    binding: u32,
    binding_length: u32,
    namespace: u32,
    namespace_length: u32,
    operation: u32,
    operation_length: u32,
    payload: u32,
    payload_length: u32,
) -> Result<u32> {
    let (guest, state) = Guest::of(&mut caller, "__host_call")?;
    state.count_call()?;
    state.host_answer = None;
    state.host_error = None;
    let lengths = [binding_length, namespace_length, operation_length, payload_length];
    for length in lengths {
        state.count_bytes(length as usize)?;
    }
    let binding = guest.read_text(binding, binding_length)?;
    let namespace = guest.read_text(namespace, namespace_length)?;
    let operation = guest.read_text(operation, operation_length)?;
    let payload = guest.read(payload, payload_length)?;
    let answer = match &state.host {
        Some(host) => host.call(&binding, &namespace, &operation, payload),
        None => Err("no host is listening".to_owned()),
    };
    match answer {
        Ok(answer) => {
            state.count_bytes(answer.len())?;
            state.host_answer = Some(answer);
            Ok(1)
        }
        Err(error) => {
            state.count_bytes(error.len())?;
            state.host_error = Some(error);
            Ok(0)
        }
    }
}

fn host_response(mut caller: Of, pointer: u32) -> Result<()> {
    let (mut guest, state) = Guest::of(&mut caller, "__host_response")?;
    if let Some(answer) = &state.host_answer {
        let answer = Arc::clone(answer);
        // A guest may fetch the same answer as often as it likes; it pays for each.
        state.count_bytes(answer.len())?;
        guest.write(pointer, &answer)?;
    }
    Ok(())
}

fn host_error(mut caller: Of, pointer: u32) -> Result<()> {
    let (mut guest, state) = Guest::of(&mut caller, "__host_error")?;
    if let Some(error) = &state.host_error {
        guest.write(pointer, error.as_bytes())?;
    }
    Ok(())
}

/// The protocol has 32 bits for a length; a limit on host bytes above that is the caller's choice.
fn length(bytes: Option<&[u8]>) -> Result<u32> {
    let length = u32::try_from(bytes.map_or(0, <[u8]>::len));
    Ok(length.map_err(|_| Fault::from(Limit::HostBytes(u64::from(u32::MAX))))?)
}

fn console_log(mut caller: Of, pointer: u32, length: u32) -> Result<()> {
    let (guest, state) = Guest::of(&mut caller, "__console_log")?;
    state.count_call()?;
    state.count_bytes(length as usize)?;
    let line = guest.read_text(pointer, length)?;
    if let Some(host) = &state.host {
        host.console_log(&line);
    }
    Ok(())
}
