//! WASI preview 1 for guests that need little of it: no arguments, no environment, no files, an output that is kept for
//! messages, clocks that run.
//!
//! Modules built with Kubewarden's SDK import five of these functions; other compilers import more, though policies hardly call
//! them. Types and error numbers are those of `wasi_snapshot_preview1` in the WebAssembly/WASI repository, `legacy/preview1/docs.md`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmtime::{Caller, FuncType, Linker, Result, Val, ValType};

use super::error::Fault;
use super::state::{Guest, State};

const MODULE: &str = "wasi_snapshot_preview1";

const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const INVAL: u32 = 28;
const NOSYS: u32 = 52;
const SPIPE: u32 = 70;

/// `filetype::character_device`: what the three standard streams are.
const CHARACTER_DEVICE: u8 = 2;
/// `rights::fd_read`, `fd_write` and `poll_fd_readwrite`.
const STREAM_RIGHTS: u64 = 1 << 1 | 1 << 6 | 1 << 27;

/// Everything that works on files only: there are none, so any file descriptor is a bad one. The letters are the
/// parameters, `i` for i32 and `I` for i64.
const FILES: [(&str, &str); 26] = [
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_datasync", "i"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_sync", "i"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
];

type Of<'a> = Caller<'a, State>;

/// Adds all of preview 1.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    linker
        .func_wrap(MODULE, "args_get", |caller: Of, list, text| nothing(caller, "args_get", list, text))?
        .func_wrap(MODULE, "args_sizes_get", |caller: Of, n, size| no_sizes(caller, "args_sizes_get", n, size))?
        .func_wrap(MODULE, "environ_get", |caller: Of, list, text| nothing(caller, "environ_get", list, text))?
        .func_wrap(MODULE, "environ_sizes_get", |caller: Of, n, size| no_sizes(caller, "environ_sizes_get", n, size))?
        .func_wrap(MODULE, "clock_res_get", clock_res_get)?
        .func_wrap(MODULE, "clock_time_get", clock_time_get)?
        .func_wrap(MODULE, "fd_close", |fd: u32| if is_stream(fd) { SUCCESS } else { BADF })?
        .func_wrap(MODULE, "fd_fdstat_get", fd_fdstat_get)?
        .func_wrap(MODULE, "fd_fdstat_set_flags", |fd: u32, _: u32| if is_stream(fd) { SUCCESS } else { BADF })?
        .func_wrap(MODULE, "fd_filestat_get", fd_filestat_get)?
        .func_wrap(MODULE, "fd_read", fd_read)?
        .func_wrap(MODULE, "fd_seek", |fd: u32, _: i64, _: u32, _: u32| if is_stream(fd) { SPIPE } else { BADF })?
        .func_wrap(MODULE, "fd_tell", |fd: u32, _: u32| if is_stream(fd) { SPIPE } else { BADF })?
        .func_wrap(MODULE, "fd_write", fd_write)?
        .func_wrap(MODULE, "poll_oneoff", poll_oneoff)?
        .func_wrap(MODULE, "proc_exit", |caller: Of, code: u32| -> Result<()> {
            Err(Fault::Exit { code, output: caller.data().output() }.into())
        })?
        .func_wrap(MODULE, "proc_raise", |_: u32| NOSYS)?
        .func_wrap(MODULE, "random_get", random_get)?
        .func_wrap(MODULE, "sched_yield", || SUCCESS)?
        .func_wrap(MODULE, "sock_shutdown", |_: u32, _: u32| BADF)?;
    for (name, parameters) in FILES {
        let parameters = parameters.bytes().map(|letter| if letter == b'i' { ValType::I32 } else { ValType::I64 });
        let kind = FuncType::new(linker.engine(), parameters, [ValType::I32]);
        linker.func_new(MODULE, name, kind, |_, _, results| {
            results[0] = Val::I32(BADF.cast_signed());
            Ok(())
        })?;
    }
    Ok(())
}

fn is_stream(fd: u32) -> bool {
    fd <= 2
}

/// The empty list of arguments or variables.
fn nothing(mut caller: Of, function: &'static str, list: u32, text: u32) -> Result<u32> {
    let (guest, _) = Guest::of(&mut caller, function)?;
    guest.read(list, 0)?;
    guest.read(text, 0)?;
    Ok(SUCCESS)
}

fn no_sizes(mut caller: Of, function: &'static str, count: u32, size: u32) -> Result<u32> {
    let (mut guest, _) = Guest::of(&mut caller, function)?;
    guest.write_u32(count, 0)?;
    guest.write_u32(size, 0)?;
    Ok(SUCCESS)
}

/// What a clock shows: the time of day, or the time since the evaluation began.
fn clock(state: &State, id: u32) -> Option<Duration> {
    match id {
        0 => SystemTime::now().duration_since(UNIX_EPOCH).ok(),
        1..=3 => Some(state.began.elapsed()),
        _ => None,
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn clock_res_get(mut caller: Of, id: u32, resolution: u32) -> Result<u32> {
    let (mut guest, state) = Guest::of(&mut caller, "clock_res_get")?;
    if clock(state, id).is_none() {
        return Ok(INVAL);
    }
    guest.write_u64(resolution, 1_000)?;
    Ok(SUCCESS)
}

fn clock_time_get(mut caller: Of, id: u32, _precision: u64, time: u32) -> Result<u32> {
    let (mut guest, state) = Guest::of(&mut caller, "clock_time_get")?;
    let Some(now) = clock(state, id) else { return Ok(INVAL) };
    guest.write_u64(time, nanoseconds(now))?;
    Ok(SUCCESS)
}

fn fd_fdstat_get(mut caller: Of, fd: u32, stat: u32) -> Result<u32> {
    let (mut guest, _) = Guest::of(&mut caller, "fd_fdstat_get")?;
    if !is_stream(fd) {
        return Ok(BADF);
    }
    let mut bytes = [0; 24];
    bytes[0] = CHARACTER_DEVICE;
    bytes[8..16].copy_from_slice(&STREAM_RIGHTS.to_le_bytes());
    guest.write(stat, &bytes)?;
    Ok(SUCCESS)
}

fn fd_filestat_get(mut caller: Of, fd: u32, stat: u32) -> Result<u32> {
    let (mut guest, _) = Guest::of(&mut caller, "fd_filestat_get")?;
    if !is_stream(fd) {
        return Ok(BADF);
    }
    let mut bytes = [0; 64];
    bytes[16] = CHARACTER_DEVICE;
    guest.write(stat, &bytes)?;
    Ok(SUCCESS)
}

/// Standard input is empty.
fn fd_read(mut caller: Of, fd: u32, _buffers: u32, _count: u32, read: u32) -> Result<u32> {
    let (mut guest, _) = Guest::of(&mut caller, "fd_read")?;
    if fd != 0 {
        return Ok(BADF);
    }
    guest.write_u32(read, 0)?;
    Ok(SUCCESS)
}

fn fd_write(mut caller: Of, fd: u32, buffers: u32, count: u32, written: u32) -> Result<u32> {
    let (mut guest, state) = Guest::of(&mut caller, "fd_write")?;
    if !matches!(fd, 1 | 2) {
        return Ok(BADF);
    }
    let mut total: u32 = 0;
    for buffer in guest.read_array(buffers, count, 8)?.chunks_exact(8) {
        let (pointer, length) = (number(buffer, 0), number(buffer, 4));
        state.write_output(guest.read(pointer, length)?);
        total = total.saturating_add(length);
    }
    guest.write_u32(written, total)?;
    Ok(SUCCESS)
}

/// The little-endian number at `offset`, or 0 behind the end.
fn number(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(<[u8]>::first_chunk).copied().map_or(0, u32::from_le_bytes)
}

/// Waits for the nearest clock, at most until the evaluation's time is up; a stream is always ready.
fn poll_oneoff(mut caller: Of, subscriptions: u32, events: u32, count: u32, happened: u32) -> Result<u32> {
    const SUBSCRIPTION: u32 = 48;
    const EVENT: u32 = 32;
    const CLOCK: u8 = 0;
    /// Far more than any runtime asks for at once.
    const MOST: u32 = 1 << 12;

    let (mut guest, state) = Guest::of(&mut caller, "poll_oneoff")?;
    if count == 0 || count > MOST {
        return Ok(INVAL);
    }
    let wanted = guest.read_array(subscriptions, count, SUBSCRIPTION)?.to_vec();
    guest.read_array(events, count, EVENT)?;

    // Offsets of a subscription: user data 0, tag 8, clock id 16, timeout 24, flags 40 (bit 0: the timeout is a time).
    let until = |one: &[u8]| -> Duration {
        let timeout = Duration::from_nanos(u64::from(number(one, 28)) << 32 | u64::from(number(one, 24)));
        match clock(state, number(one, 16)) {
            _ if one[8] != CLOCK => Duration::ZERO,
            Some(now) if one[40] & 1 == 1 => timeout.saturating_sub(now),
            Some(_) => timeout,
            None => Duration::ZERO,
        }
    };
    let subscriptions = || wanted.chunks_exact(SUBSCRIPTION as usize);
    let wait = subscriptions().map(until).min().unwrap_or_default();
    let ready: Vec<&[u8]> = subscriptions().filter(|one| until(one) <= wait).collect();
    let left = state.limits.time.saturating_sub(state.began.elapsed());
    std::thread::sleep(wait.min(left));
    state.check_time()?;

    // Offsets of an event: user data 0, error number 8, tag 10, bytes to read 16.
    let mut event = events;
    for one in &ready {
        let mut bytes = [0; EVENT as usize];
        bytes[..8].copy_from_slice(&one[..8]);
        bytes[10] = one[8];
        guest.write(event, &bytes)?;
        event = event.wrapping_add(EVENT);
    }
    guest.write_u32(happened, u32::try_from(ready.len()).unwrap_or(count))?;
    Ok(SUCCESS)
}

fn random_get(mut caller: Of, pointer: u32, length: u32) -> Result<u32> {
    let (mut guest, state) = Guest::of(&mut caller, "random_get")?;
    state.fill_random(guest.slice_mut(pointer, length)?);
    Ok(SUCCESS)
}
