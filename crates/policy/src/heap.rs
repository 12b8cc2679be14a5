//! The memory of a guest: handed out from the bottom up, and given back whole when an evaluation ends.
//!
//! A guest judges one object and is then done: in the policy-server with its life, elsewhere until the next request. Of what
//! an evaluation asks for, nothing but the answer outlives it. So nothing is given back piece by piece: to free does
//! nothing, and with it goes the code that walks each list to free its items.
//!
//! The request and the answer of a call stay, some kilobytes of each: a host that keeps an instance for a hundred
//! thousand calls needs a gigabyte for it. None of them does; the checker starts an instance anew before that.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait; no other file of a guest is")]

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::memory_grow;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr;

/// The unit in which a Wasm memory grows, in bytes.
const PAGE: usize = 64 * 1024;
/// At least as many pages are asked for at once: each time is a call to the host's system.
const PAGES_AT_ONCE: usize = 8;

/// What is not stack and not constants of the guest's memory.
struct Heap {
    /// Where the memory begins that is there for pieces.
    start: Cell<usize>,
    /// Where the next piece may begin.
    next: Cell<usize>,
    /// Where that memory ends.
    end: Cell<usize>,
}

// SAFETY: a guest for WASI preview 1 has one thread.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap { start: Cell::new(0), next: Cell::new(0), end: Cell::new(0) };

impl Heap {
    /// The address of a new piece, if there is room for one.
    fn fit(&self, layout: Layout) -> Option<usize> {
        let address = self.next.get().checked_next_multiple_of(layout.align())?;
        let next = address.checked_add(layout.size()).filter(|next| *next <= self.end.get())?;
        self.next.set(next);
        Some(address)
    }

    /// Whether the host gave room for one more piece.
    fn grow(&self, layout: Layout) -> bool {
        let pages = layout.size().saturating_add(layout.align()).div_ceil(PAGE).max(PAGES_AT_ONCE);
        let before = memory_grow::<0>(pages);
        if before == usize::MAX {
            return false;
        }
        let begin = before * PAGE;
        if begin != self.end.get() {
            // This is the first time, or the C library has had memory for itself in between.
            self.start.set(begin);
            self.next.set(begin);
        }
        // The end of the last page of all has no address.
        self.end.set(begin.saturating_add(pages * PAGE));
        true
    }
}

// SAFETY: pieces lie one behind the other in memory that the host gave for nothing else, so that no two overlap, until
// `evaluate` forgets those of an evaluation that has ended.
unsafe impl GlobalAlloc for Heap {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let address = self.fit(layout).or_else(|| if self.grow(layout) { self.fit(layout) } else { None });
        address.map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}

    #[inline(never)]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The last piece, such as a text that is being written, grows where it is.
        if piece.addr() + layout.size() == self.next.get() {
            let next = piece.addr().saturating_add(size);
            if next <= self.end.get() {
                self.next.set(next);
                return piece;
            }
        } else if size <= layout.size() {
            return piece;
        }
        // SAFETY: the caller promises that `size` with this alignment is a layout, and that `piece` is one of ours, of
        // the size of `layout`; a new piece is another one.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(piece, moved, layout.size().min(size));
            }
            moved
        }
    }
}

/// What a module would link of the C library for nothing but a panic's message: its allocator, its environment, its texts of
/// errors, as much as a small rule. Since these have the names of its functions, those are left out.
mod c {
    use super::{GlobalAlloc, HEAP, Layout, ptr};

    /// What C wants every piece to be a multiple of.
    const ALIGN: usize = 16;

    #[unsafe(no_mangle)]
    extern "C" fn malloc(size: usize) -> *mut u8 {
        match Layout::from_size_align(size.max(1), ALIGN) {
            // SAFETY: the size is not zero.
            Ok(layout) => unsafe { HEAP.alloc(layout) },
            Err(_) => ptr::null_mut(),
        }
    }

    #[unsafe(no_mangle)]
    extern "C" fn calloc(count: usize, size: usize) -> *mut u8 {
        let Some(size) = count.checked_mul(size) else { return ptr::null_mut() };
        let piece = malloc(size);
        if !piece.is_null() {
            // SAFETY: the piece has this size.
            unsafe { ptr::write_bytes(piece, 0, size) };
        }
        piece
    }

    #[unsafe(no_mangle)]
    extern "C" fn free(_: *mut u8) {}

    /// The library's texts of errors are as large again; a guest has no files, and its own errors have texts of their own.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strerror_r(_: i32, text: *mut u8, length: usize) -> i32 {
        if length > 0 {
            // SAFETY: the caller promises room for `length` bytes.
            unsafe { text.write(0) };
        }
        0
    }

    /// No host gives a guest an environment.
    #[unsafe(no_mangle)]
    extern "C" fn getenv(_: *const u8) -> *mut u8 {
        ptr::null_mut()
    }
}

/// The answer of `judge`; all memory that it asked for, save the answer, is there for the next one.
#[expect(clippy::same_length_and_capacity, reason = "the capacity is of our own making")]
pub(crate) fn evaluate(judge: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let mark = HEAP.next.get();
    let answer = ManuallyDrop::new(judge());
    let length = answer.len();
    if length == 0 || mark < HEAP.start.get() {
        return ManuallyDrop::into_inner(answer);
    }
    HEAP.next.set(mark + length);
    let place = ptr::with_exposed_provenance_mut(mark);
    // SAFETY: all between the mark and the end was asked for by `judge`, and only the answer is left of it, which lies at
    // the mark or behind it. A vector of bytes may begin at any address, and this one is never freed.
    unsafe {
        ptr::copy(answer.as_ptr(), place, length);
        Vec::from_raw_parts(place, length, length)
    }
}
