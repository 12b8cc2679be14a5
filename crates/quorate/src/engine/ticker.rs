//! The clock that interrupts guests: a thread that advances the engine's epoch, only while guests run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// Between two looks at the time; an evaluation may take so much longer than its limit.
const TICK: Duration = Duration::from_millis(10);

/// Owns the thread, which ends soon after this does. It holds nothing open that would keep a process alive.
pub(super) struct Ticker {
    state: Arc<State>,
    thread: Thread,
}

#[derive(Default)]
struct State {
    running: AtomicUsize,
    parked: AtomicBool,
    stopped: AtomicBool,
}

impl Ticker {
    /// Starts the thread, asleep.
    pub(super) fn start(engine: &wasmtime::Engine) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let engine = engine.weak();
        let thread = {
            let state = Arc::clone(&state);
            thread::Builder::new().name("wasm-ticker".to_owned()).spawn(move || state.tick(&engine))?
        };
        Ok(Self { state, thread: thread.thread().clone() })
    }

    /// Ticks until the guard is dropped.
    pub(super) fn run(&self) -> Running<'_> {
        self.state.running.fetch_add(1, Ordering::SeqCst);
        // Waking costs a system call: only the first evaluation after a pause pays for it.
        if self.state.parked.load(Ordering::SeqCst) && self.state.parked.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.state)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// While one of these lives, the epoch advances.
pub(super) struct Running<'a>(&'a State);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl State {
    fn tick(&self, engine: &wasmtime::EngineWeak) {
        while !self.stopped.load(Ordering::SeqCst) {
            if self.running.load(Ordering::SeqCst) > 0 {
                thread::sleep(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
                continue;
            }
            self.parked.store(true, Ordering::SeqCst);
            // An evaluation that began before it could see `parked` is seen here.
            if self.running.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst) {
                thread::park();
            }
            self.parked.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn reaches(ticker: &Ticker, parked: bool) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            if ticker.state.parked.load(Ordering::SeqCst) == parked {
                return true;
            }
            thread::sleep(Duration::from_millis(1));
        }
        false
    }

    #[test]
    fn sleeps_while_nothing_runs_and_ends_with_its_owner() {
        let engine = wasmtime::Engine::new(&crate::engine::config::config()).unwrap();
        let ticker = Ticker::start(&engine).unwrap();
        assert!(reaches(&ticker, true));
        let (one, two) = (ticker.run(), ticker.run());
        assert!(reaches(&ticker, false));
        drop(one);
        drop(two);
        assert!(reaches(&ticker, true));

        let state = Arc::clone(&ticker.state);
        drop(ticker);
        let begin = Instant::now();
        while Arc::strong_count(&state) > 1 && begin.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(Arc::strong_count(&state), 1);
    }
}
