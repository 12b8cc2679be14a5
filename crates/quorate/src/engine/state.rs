//! What the imports of one instance work on, and the only way to its memory.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::{Caller, Extern, Memory, ResourceLimiter};

use super::Host;
use super::error::Fault;
use super::limits::{Limit, Limits};

/// Of what a guest writes to its output, this many bytes are kept: the last words are those of its panic.
const OUTPUT: usize = 4 << 10;

/// Where the numbers begin that a guest takes for random. They are the same in each instance: the same manifests must give
/// the same findings.
const SEED: u64 = 0x5175_6f72_6174_6521;

/// The data of one store.
pub(super) struct State {
    pub(super) limits: Arc<Limits>,
    /// Present while an evaluation runs.
    pub(super) host: Option<Arc<dyn Host>>,
    pub(super) began: Instant,
    memory: Option<Memory>,
    /// Bytes of all memories, elements of all tables.
    pub(super) memory_bytes: u64,
    table_elements: u64,

    pub(super) operation: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) response: Option<Vec<u8>>,
    pub(super) error: Option<String>,
    pub(super) host_answer: Option<Arc<[u8]>>,
    pub(super) host_error: Option<String>,
    host_calls: u64,
    host_bytes: u64,

    output: Vec<u8>,
    random: u64,
}

impl State {
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            host: None,
            began: Instant::now(),
            memory: None,
            memory_bytes: 0,
            table_elements: 0,
            operation: Vec::new(),
            payload: Vec::new(),
            response: None,
            error: None,
            host_answer: None,
            host_error: None,
            host_calls: 0,
            host_bytes: 0,
            output: Vec::new(),
            random: SEED,
        }
    }

    /// Forgets the evaluation before and takes up the next.
    pub(super) fn begin(&mut self, began: Instant, host: &Arc<dyn Host>, operation: &str, payload: &[u8]) {
        self.began = began;
        self.host = Some(Arc::clone(host));
        self.operation.clear();
        self.operation.extend_from_slice(operation.as_bytes());
        self.payload.clear();
        self.payload.extend_from_slice(payload);
        self.response = None;
        self.error = None;
        self.host_answer = None;
        self.host_error = None;
        self.host_calls = 0;
        self.host_bytes = 0;
        self.output.clear();
    }

    /// Lets go of what an idle instance has no use for.
    pub(super) fn end(&mut self) {
        self.host = None;
        self.host_answer = None;
        // A large request would stay for as long as the instance.
        self.payload.shrink_to(OUTPUT);
    }

    /// Fails once the evaluation's time is up.
    pub(super) fn check_time(&self) -> Result<(), Fault> {
        if self.began.elapsed() < self.limits.time { Ok(()) } else { Err(Limit::Time(self.limits.time).into()) }
    }

    /// Counts one call to the host.
    pub(super) fn count_call(&mut self) -> Result<(), Fault> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls {
            return Err(Limit::HostCalls(self.limits.host_calls).into());
        }
        Ok(())
    }

    /// Counts what a call to the host carries, either way.
    pub(super) fn count_bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.host_bytes = self.host_bytes.saturating_add(bytes as u64);
        if self.host_bytes > self.limits.host_bytes {
            return Err(Limit::HostBytes(self.limits.host_bytes).into());
        }
        Ok(())
    }

    /// Keeps the end of what the guest writes.
    pub(super) fn write_output(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(OUTPUT)..];
        let spare = (self.output.len() + new.len()).saturating_sub(OUTPUT);
        self.output.drain(..spare.min(self.output.len()));
        self.output.extend_from_slice(new);
    }

    /// The end of what the guest wrote.
    pub(super) fn output(&self) -> String {
        String::from_utf8_lossy(&self.output).trim().to_owned()
    }

    /// Fills `bytes` with numbers of the generator `SplitMix64`.
    pub(super) fn fill_random(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut number = self.random;
            number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(number ^ (number >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own bound: `memory.grow` answers -1, as anywhere.
            return Ok(false);
        }
        let wanted = self.memory_bytes.saturating_add(desired.saturating_sub(current) as u64);
        if wanted > self.limits.memory {
            return Err(Fault::from(Limit::Memory { allowed: self.limits.memory, wanted }).into());
        }
        self.memory_bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self.table_elements.saturating_add(desired.saturating_sub(current) as u64);
        if wanted > self.limits.table_elements {
            return Err(Fault::from(Limit::TableElements { allowed: self.limits.table_elements, wanted }).into());
        }
        self.table_elements = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        self.limits.definitions as usize
    }

    fn tables(&self) -> usize {
        self.limits.definitions as usize
    }
}

/// The guest's memory while it waits for an import to return.
pub(super) struct Guest<'a> {
    /// The import, for messages.
    function: &'static str,
    bytes: &'a mut [u8],
}

impl<'a> Guest<'a> {
    /// The memory and the state of the caller of `function`.
    pub(super) fn of(
        caller: &'a mut Caller<'_, State>,
        function: &'static str,
    ) -> Result<(Self, &'a mut State), Fault> {
        let memory = match caller.data().memory {
            Some(memory) => memory,
            None => match caller.get_export("memory") {
                Some(Extern::Memory(memory)) => *caller.data_mut().memory.insert(memory),
                _ => return Err(Fault::NotAPolicy("it exports no memory named `memory`".to_owned())),
            },
        };
        let (bytes, state) = memory.data_and_store_mut(caller);
        Ok((Self { function, bytes }, state))
    }

    fn range(&self, pointer: u32, length: u64) -> Result<Range<usize>, Fault> {
        let size = self.bytes.len() as u64;
        // No overflow: a pointer has 32 bits, and no length is longer than a product of two such numbers.
        let end = u64::from(pointer) + length;
        match usize::try_from(end) {
            Ok(end) if end as u64 <= size => Ok(pointer as usize..end),
            _ => Err(Fault::Pointer { function: self.function, pointer, length, size }),
        }
    }

    pub(super) fn read(&self, pointer: u32, length: u32) -> Result<&[u8], Fault> {
        self.read_array(pointer, length, 1)
    }

    /// `count` elements of `size` bytes.
    pub(super) fn read_array(&self, pointer: u32, count: u32, size: u32) -> Result<&[u8], Fault> {
        let range = self.range(pointer, u64::from(count) * u64::from(size))?;
        Ok(&self.bytes[range])
    }

    pub(super) fn read_text(&self, pointer: u32, length: u32) -> Result<String, Fault> {
        // What is no UTF-8 is told with replacement characters: an unknown operation, a garbled log line.
        Ok(String::from_utf8_lossy(self.read(pointer, length)?).into_owned())
    }

    pub(super) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Fault> {
        let range = self.range(pointer, bytes.len() as u64)?;
        self.bytes[range].copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn write_u32(&mut self, pointer: u32, number: u32) -> Result<(), Fault> {
        self.write(pointer, &number.to_le_bytes())
    }

    pub(super) fn write_u64(&mut self, pointer: u32, number: u64) -> Result<(), Fault> {
        self.write(pointer, &number.to_le_bytes())
    }

    pub(super) fn slice_mut(&mut self, pointer: u32, length: u32) -> Result<&mut [u8], Fault> {
        let range = self.range(pointer, u64::from(length))?;
        Ok(&mut self.bytes[range])
    }
}
