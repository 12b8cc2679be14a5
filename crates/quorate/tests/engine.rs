//! Hostile and broken modules, written as text: each is told by its name and by what it did, and none harms the next.

#![expect(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quorate::engine::{
    Engine, EngineError, Fault, Host, Limit, Limits, Module, ProtocolVersion, SettingsValidationResponse, builtins,
};
use rayon::prelude::*;

const TIME: Duration = Duration::from_millis(100);
const MIB: u64 = 1 << 20;

/// All imports of waPC, a memory of 64 KiB, and `__guest_call` with the given body. Strings for host calls lie at 0.
fn policy(definitions: &str, call: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "wapc" "__guest_request" (func $guest_request (param i32 i32)))
          (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
          (import "wapc" "__guest_error" (func $guest_error (param i32 i32)))
          (import "wapc" "__host_call" (func $host_call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
          (import "wapc" "__host_response" (func $host_response (param i32)))
          (import "wapc" "__host_response_len" (func $host_response_len (result i32)))
          (import "wapc" "__host_error" (func $host_error (param i32)))
          (import "wapc" "__host_error_len" (func $host_error_len (result i32)))
          (import "wapc" "__console_log" (func $console_log (param i32 i32)))
          (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
          (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "kubewardenkubernetesget_resource")
          {definitions}
          (func (export "__guest_call") (param $operation i32) (param $payload i32) (result i32)
            {call}))"#
    );
    wat::parse_str(text).unwrap()
}

/// Answers with the payload it was given.
const ECHO: &str = "(call $guest_request (i32.const 1024) (i32.const 2048))
                    (call $guest_response (i32.const 2048) (local.get $payload))
                    (i32.const 1)";

/// Asks for `kubewarden`/`kubernetes`/`get_resource` with an empty payload.
const ASK: &str = "(call $host_call (i32.const 0) (i32.const 10) (i32.const 10) (i32.const 10)
                     (i32.const 20) (i32.const 12) (i32.const 0) (i32.const 0))";

/// Answers every call with its own name, except for `refuse`, and keeps what is logged.
#[derive(Default)]
struct Cluster {
    answer: Option<Vec<u8>>,
    calls: AtomicUsize,
    log: Mutex<Vec<String>>,
}

impl Host for Cluster {
    fn call(&self, binding: &str, namespace: &str, operation: &str, payload: &[u8]) -> Result<Arc<[u8]>, String> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let asked = format!("{binding}/{namespace}/{operation} {}", payload.len());
        match &self.answer {
            Some(answer) => Ok(Arc::from(answer.as_slice())),
            None => Err(asked),
        }
    }

    fn console_log(&self, line: &str) {
        self.log.lock().unwrap().push(line.to_owned());
    }
}

fn no_cluster() -> Arc<dyn Host> {
    Arc::new(Cluster::default())
}

/// A quick and narrow engine.
fn limits() -> Limits {
    Limits { time: TIME, memory: 4 * MIB, table_elements: 1000, host_calls: 100, host_bytes: MIB, ..Limits::default() }
}

/// What comes of a bad module, and that a good one still works afterwards.
fn outcome_with(limits: Limits, wasm: &[u8], operation: &str, host: &Arc<dyn Host>) -> Result<Vec<u8>, EngineError> {
    let engine = Engine::new(limits).unwrap();
    let good = engine.compile("good", &policy("", ECHO)).unwrap();
    assert_eq!(good.call("validate", b"before", host).unwrap(), b"before");
    let outcome = engine.compile("bad", wasm).and_then(|module| {
        let first = module.call(operation, b"{}", host);
        assert_eq!(module.call(operation, b"{}", host), first, "a second call fares as the first");
        first
    });
    assert_eq!(good.call("validate", b"after", host).unwrap(), b"after");
    if let Err(error) = &outcome {
        assert_eq!(error.module(), "bad");
        assert!(error.to_string().starts_with("module \"bad\": "), "{error}");
    }
    outcome
}

fn outcome(wasm: &[u8]) -> Result<Vec<u8>, EngineError> {
    outcome_with(limits(), wasm, "validate", &no_cluster())
}

fn fault(wasm: &[u8]) -> Fault {
    outcome(wasm).unwrap_err().fault().clone()
}

#[test]
fn a_policy_answers_what_it_is_asked() {
    assert_eq!(outcome(&policy("", ECHO)).unwrap(), b"{}");
    // The operation arrives too.
    let operation = "(call $guest_request (i32.const 1024) (i32.const 2048))
                     (call $guest_response (i32.const 1024) (local.get $operation)) (i32.const 1)";
    assert_eq!(outcome(&policy("", operation)).unwrap(), b"validate");
}

#[test]
fn a_request_overlapping_its_operation_is_written_as_the_real_host_writes_it() {
    let both = "(call $guest_request (i32.const 1024) (i32.const 1024))
                (call $guest_response (i32.const 1024) (local.get $operation)) (i32.const 1)";
    assert_eq!(outcome(&policy("", both)).unwrap(), b"validate");
}

#[test]
fn an_endless_loop_is_interrupted_wherever_it_runs() {
    let forever = "(loop $again (br $again))";
    let modules = [
        policy("", &format!("{forever} (i32.const 1)")),
        policy(&format!(r#"(func (export "wapc_init") {forever})"#), ECHO),
        policy(&format!(r#"(func (export "_start") {forever})"#), ECHO),
        policy(&format!("(func $begin {forever}) (start $begin)"), ECHO),
    ];
    for module in modules {
        let begin = Instant::now();
        let error = outcome(&module).unwrap_err();
        assert_eq!(error.fault(), &Fault::Limit(Limit::Time(TIME)));
        assert_eq!(
            error.to_string(),
            "module \"bad\": exceeded the time limit of 100 ms for one evaluation; raise `time` if it truly needs more"
        );
        // Twice the limit, for two evaluations; the rest is for slow machines.
        assert!(begin.elapsed() >= TIME * 2);
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    }
}

#[test]
fn sleeping_is_no_way_around_the_time_limit() {
    // One subscription to the monotonic clock, an hour from now.
    let sleep = r#"(func (export "wapc_init")
        (i32.store (i32.const 1040) (i32.const 1))
        (i64.store (i32.const 1048) (i64.const 3600000000000))
        (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 4096))))"#;
    let module = wat::parse_str(format!(
        r#"(module (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
             (memory (export "memory") 1) {sleep}
             (func (export "__guest_call") (param i32 i32) (result i32) (i32.const 0)))"#
    ));
    assert_eq!(fault(&module.unwrap()), Fault::Limit(Limit::Time(TIME)));
}

#[test]
fn memory_may_grow_to_the_limit_and_not_beyond() {
    let grow = |pages: u32| policy("", &format!("(drop (memory.grow (i32.const {pages}))) {ECHO}"));
    assert_eq!(outcome(&grow(63)).unwrap(), b"{}");
    let error = outcome(&grow(64)).unwrap_err();
    assert_eq!(error.fault(), &Fault::Limit(Limit::Memory { allowed: 4 * MIB, wanted: 65 << 16 }));
    assert_eq!(
        error.to_string(),
        "module \"bad\": exceeded the memory limit of 4 MiB: it wanted 4.1 MiB; raise `memory` if it truly needs more"
    );
    // Step by step, and until nothing is left.
    let greedy = policy("", "(loop $more (drop (memory.grow (i32.const 1))) (br $more)) (i32.const 1)");
    assert!(matches!(fault(&greedy), Fault::Limit(Limit::Memory { .. })));
}

#[test]
fn all_memories_count_together() {
    let second = policy("(memory $more 1 100)", &format!("(drop (memory.grow $more (i32.const 63))) {ECHO}"));
    assert_eq!(fault(&second), Fault::Limit(Limit::Memory { allowed: 4 * MIB, wanted: 65 << 16 }));
}

#[test]
fn a_memory_that_reaches_its_own_bound_is_the_modules_affair() {
    let bounded = wat::parse_str(
        r#"(module (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
             (memory (export "memory") 1 2)
             (func (export "__guest_call") (param i32 i32) (result i32)
               (i32.store (i32.const 0) (memory.grow (i32.const 60000)))
               (call $guest_response (i32.const 0) (i32.const 4)) (i32.const 1)))"#,
    );
    assert_eq!(outcome(&bounded.unwrap()).unwrap(), (-1_i32).to_le_bytes());
}

#[test]
fn a_huge_initial_memory_is_refused() {
    let huge = wat::parse_str(
        r#"(module (memory (export "memory") 65536)
             (func (export "__guest_call") (param i32 i32) (result i32) (i32.const 0)))"#,
    );
    assert_eq!(fault(&huge.unwrap()), Fault::Limit(Limit::Memory { allowed: 4 * MIB, wanted: 4096 * MIB }));
}

#[test]
fn tables_are_limited_in_size_and_number() {
    let table = policy("(table $t 10 funcref)", "(drop (table.grow $t (ref.null func) (i32.const 991))) (i32.const 1)");
    assert_eq!(fault(&table), Fault::Limit(Limit::TableElements { allowed: 1000, wanted: 1001 }));
    let initial = policy("(table 100000 funcref)", ECHO);
    assert_eq!(fault(&initial), Fault::Limit(Limit::TableElements { allowed: 1000, wanted: 100_000 }));
    let many = policy(&"(table 1 funcref)".repeat(65), ECHO);
    let expected = Limit::Definitions { what: "tables", allowed: 64, wanted: 65 };
    assert_eq!(fault(&many), Fault::Limit(expected));
}

#[test]
fn a_claimed_response_of_a_gibibyte_is_not_even_looked_at() {
    let claim = |import: &str, length: u32| {
        policy("", &format!("(call ${import} (i32.const 0) (i32.const {length})) (i32.const 1)"))
    };
    for import in ["guest_response", "guest_error"] {
        let error = outcome(&claim(import, 1 << 30)).unwrap_err();
        assert_eq!(error.fault(), &Fault::Limit(Limit::Response { allowed: 16 * MIB, wanted: 1024 * MIB }));
        assert_eq!(
            error.to_string(),
            "module \"bad\": exceeded the limit of 16 MiB for an answer: it has 1024 MiB; \
             raise `response` if it truly needs more"
        );
        assert!(matches!(fault(&claim(import, 65_537)), Fault::Pointer { .. }));
    }
    assert_eq!(outcome(&claim("guest_response", 65_536)).unwrap().len(), 65_536);
}

#[test]
fn endless_recursion_meets_the_stack_limit() {
    let module = policy("(func $deeper (result i32) (i32.add (call $deeper) (i32.const 1)))", "(call $deeper)");
    let error = outcome(&module).unwrap_err();
    assert_eq!(error.fault(), &Fault::Limit(Limit::Stack(512 << 10)));
    assert!(error.to_string().contains("the stack limit of 512 KiB"), "{error}");
    // As in a pool of workers, whose stacks are smaller than that of the main thread.
    let faults: Vec<Fault> = (0..8).into_par_iter().map(|_| fault(&module)).collect();
    assert_eq!(faults, vec![Fault::Limit(Limit::Stack(512 << 10)); 8]);
}

#[test]
fn an_engine_refuses_a_stack_that_a_thread_does_not_have() {
    for stack in [0, Limits::MAX_STACK + 1] {
        let error = Engine::new(Limits { stack, ..Limits::default() }).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(&format!("a stack of {stack} bytes")), "{error}");
    }
}

#[test]
fn every_pointer_of_every_import_is_checked() {
    // Each call with one pointer or length beyond the memory of 64 KiB; -1 is the highest address.
    let calls = [
        ("wapc", "__guest_request", "ii", "0 65535"),
        ("wapc", "__guest_request", "ii", "-1 0"),
        ("wapc", "__guest_response", "ii", "65536 1"),
        ("wapc", "__guest_response", "ii", "-1 2"),
        ("wapc", "__guest_error", "ii", "1 65536"),
        ("wapc", "__host_call", "iiiiiiii", "-1 1 0 1 0 1 0 1"),
        ("wapc", "__host_call", "iiiiiiii", "0 1 -1 1 0 1 0 1"),
        ("wapc", "__host_call", "iiiiiiii", "0 1 0 1 65536 1 0 1"),
        ("wapc", "__host_call", "iiiiiiii", "0 1 0 1 0 1 60000 60000"),
        ("wapc", "__console_log", "ii", "0 65537"),
        ("wasi_snapshot_preview1", "args_get", "ii", "-1 0"),
        ("wasi_snapshot_preview1", "args_sizes_get", "ii", "0 65533"),
        ("wasi_snapshot_preview1", "environ_get", "ii", "0 -1"),
        ("wasi_snapshot_preview1", "environ_sizes_get", "ii", "65533 0"),
        ("wasi_snapshot_preview1", "clock_res_get", "ii", "0 65529"),
        ("wasi_snapshot_preview1", "clock_time_get", "iIi", "0 0 -8"),
        ("wasi_snapshot_preview1", "fd_fdstat_get", "ii", "1 65513"),
        ("wasi_snapshot_preview1", "fd_filestat_get", "ii", "1 65473"),
        ("wasi_snapshot_preview1", "fd_read", "iiii", "0 0 0 65533"),
        ("wasi_snapshot_preview1", "fd_write", "iiii", "1 65529 1 0"),
        ("wasi_snapshot_preview1", "fd_write", "iiii", "1 0 -1 0"),
        // The bytes at 0 are letters, so as a buffer they point nowhere.
        ("wasi_snapshot_preview1", "fd_write", "iiii", "1 0 1 0"),
        ("wasi_snapshot_preview1", "fd_write", "iiii", "1 1024 1 65533"),
        ("wasi_snapshot_preview1", "poll_oneoff", "iiii", "65489 0 1 0"),
        ("wasi_snapshot_preview1", "poll_oneoff", "iiii", "1024 65505 1 0"),
        ("wasi_snapshot_preview1", "poll_oneoff", "iiii", "1024 2048 1 65533"),
        ("wasi_snapshot_preview1", "random_get", "ii", "1 65536"),
        ("wasi_snapshot_preview1", "random_get", "ii", "-1 -1"),
    ];
    for (module, function, parameters, arguments) in calls {
        let kinds: Vec<_> = parameters.chars().map(|one| if one == 'i' { "i32" } else { "i64" }).collect();
        let values: Vec<_> =
            kinds.iter().zip(arguments.split(' ')).map(|(kind, value)| format!("({kind}.const {value})")).collect();
        let values = values.concat();
        let returns = module != "wapc" || function == "__host_call";
        let (result, drop) = if returns { ("(result i32)", "(drop)") } else { ("", "") };
        let text = format!(
            r#"(module (import "{module}" "{function}" (func $call (param {}) {result}))
                 (memory (export "memory") 1) (data (i32.const 0) "letters and letters")
                 (func (export "__guest_call") (param i32 i32) (result i32) (call $call {values}) {drop} (i32.const 1)))"#,
            kinds.join(" ")
        );
        match fault(&wat::parse_str(text).unwrap()) {
            Fault::Pointer { function: told, size, .. } => assert_eq!((told, size), (function, 65_536), "{arguments}"),
            other => panic!("{function}({arguments}): {other}"),
        }
    }
}

#[test]
fn pointers_for_answers_of_the_host_are_checked_too() {
    let answers: Arc<dyn Host> = Arc::new(Cluster { answer: Some(b"answer".to_vec()), ..Cluster::default() });
    for (host, import) in [(answers, "host_response"), (no_cluster(), "host_error")] {
        let module = policy("", &format!("(drop {ASK}) (call ${import} (i32.const 65535)) (i32.const 1)"));
        let error = outcome_with(limits(), &module, "validate", &host).unwrap_err();
        assert!(matches!(error.fault(), Fault::Pointer { pointer: 65_535, .. }), "{error}");
    }
}

#[test]
fn a_storm_of_host_calls_ends_at_the_limit() {
    let host = Arc::new(Cluster::default());
    let storm = policy("", &format!("(loop $again (drop {ASK}) (br $again)) (i32.const 1)"));
    let error = outcome_with(limits(), &storm, "validate", &(Arc::clone(&host) as Arc<dyn Host>)).unwrap_err();
    assert_eq!(error.fault(), &Fault::Limit(Limit::HostCalls(100)));
    assert_eq!(host.calls.load(Ordering::Relaxed), 200, "100 for each of two evaluations");

    let chatter = policy("", "(loop $again (call $console_log (i32.const 0) (i32.const 1)) (br $again)) (i32.const 1)");
    assert_eq!(fault(&chatter), Fault::Limit(Limit::HostCalls(100)));
}

#[test]
fn what_host_calls_carry_is_limited() {
    let large: Arc<dyn Host> = Arc::new(Cluster { answer: Some(vec![b' '; 60_000]), ..Cluster::default() });
    let ask = format!("(loop $again (drop {ASK}) (br $again)) (i32.const 1)");
    let fetch = format!("(drop {ASK}) (loop $again (call $host_response (i32.const 0)) (br $again)) (i32.const 1)");
    for body in [ask, fetch] {
        let error = outcome_with(limits(), &policy("", &body), "validate", &large).unwrap_err();
        assert_eq!(error.fault(), &Fault::Limit(Limit::HostBytes(MIB)));
    }
}

#[test]
fn answers_and_errors_of_the_host_reach_the_policy() {
    let reply = |length: &str, fetch: &str| {
        format!(
            "(i32.store (i32.const 4096) {ASK}) (call {fetch} (i32.const 4097))
                 (call $guest_response (i32.const 4096) (i32.add (i32.const 1) (call {length}))) (i32.const 1)"
        )
    };
    let answered = policy("", &reply("$host_response_len", "$host_response"));
    let host: Arc<dyn Host> = Arc::new(Cluster { answer: Some(b"here".to_vec()), ..Cluster::default() });
    assert_eq!(outcome_with(limits(), &answered, "validate", &host).unwrap(), b"\x01here");
    let refused = policy("", &reply("$host_error_len", "$host_error"));
    assert_eq!(outcome(&refused).unwrap(), b"\x00kubewarden/kubernetes/get_resource 0");
    // Without an answer there is nothing to fetch.
    assert_eq!(outcome(&answered).unwrap(), b"\x00");
}

#[test]
fn log_lines_reach_the_host() {
    let host = Arc::new(Cluster::default());
    let module = policy("", &format!("(call $console_log (i32.const 0) (i32.const 10)) {ECHO}"));
    outcome_with(limits(), &module, "validate", &(Arc::clone(&host) as Arc<dyn Host>)).unwrap();
    assert_eq!(*host.log.lock().unwrap(), ["kubewarden", "kubewarden"]);
}

#[test]
fn a_trap_tells_the_guests_last_words() {
    // What was written last counts; what was written first goes.
    let words = r#"(data (i32.const 512) "\00\04\00\00\28\00\00\00") (data (i32.const 1024) "thread 'main' panicked: no such member  ")"#;
    let write = "(drop (call $fd_write (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 528)))";
    let error = outcome(&policy(words, &format!("{write} (unreachable)"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "module \"bad\": trapped in `__guest_call`: wasm `unreachable` instruction executed; \
         it wrote: thread 'main' panicked: no such member"
    );
    let torrent = format!("(loop $again {write} (br $again)) (i32.const 1)");
    assert_eq!(fault(&policy(words, &torrent)), Fault::Limit(Limit::Time(TIME)));
    let init = policy(r#"(func (export "wapc_init") (unreachable))"#, ECHO);
    assert!(matches!(fault(&init), Fault::Trap { function: "wapc_init", .. }));
    let data = policy("(memory $m 1) (data (memory $m) (i32.const 65535) \"ab\")", ECHO);
    assert!(matches!(fault(&data), Fault::Trap { function: "start", .. }));
    let division = policy("", "(i32.div_s (i32.const 1) (i32.const 0))");
    assert!(matches!(fault(&division), Fault::Trap { reason, .. } if reason.contains("divide by zero")));
}

#[test]
fn leaving_with_success_ends_the_start_and_nothing_else() {
    let start = policy(r#"(func (export "_start") (call $proc_exit (i32.const 0)))"#, ECHO);
    assert_eq!(outcome(&start).unwrap(), b"{}");
    let failed = policy(r#"(func (export "_start") (call $proc_exit (i32.const 3)))"#, ECHO);
    assert_eq!(fault(&failed), Fault::Exit { code: 3, output: String::new() });
    let call = policy("", "(call $proc_exit (i32.const 0)) (i32.const 1)");
    assert_eq!(fault(&call), Fault::Exit { code: 0, output: String::new() });
}

#[test]
fn initialisation_runs_in_the_hosts_order_and_once_for_each_evaluation() {
    // Digits pile up: start section, `_start`, `wapc_init`, the call.
    let digit = |digit: u32| {
        format!(
            "(i32.store8 (i32.const 1024) (i32.add (i32.mul (i32.load8_u (i32.const 1024)) (i32.const 5)) (i32.const {digit})))"
        )
    };
    let definitions = format!(
        r#"(func $first {}) (start $first) (func (export "wapc_init") {}) (func (export "_start") {})"#,
        digit(1),
        digit(3),
        digit(2)
    );
    let module = policy(
        &definitions,
        &format!("{} (call $guest_response (i32.const 1024) (i32.const 1)) (i32.const 1)", digit(4)),
    );
    let expected = ((5 + 2) * 5 + 3) * 5 + 4;
    assert_eq!(outcome(&module).unwrap(), [u8::try_from(expected).unwrap()]);
}

#[test]
fn errors_of_the_policy_keep_their_words() {
    let says = policy("", "(call $guest_error (i32.const 10) (i32.const 10)) (i32.const 0)");
    let error = outcome(&says).unwrap_err();
    assert_eq!(error.fault(), &Fault::Guest("kubernetes".to_owned()));
    assert_eq!(error.to_string(), "module \"bad\": Guest call failure: kubernetes");
    // An error counts even where the guest reports success but gives no answer.
    let success = policy("", "(call $guest_error (i32.const 10) (i32.const 10)) (i32.const 1)");
    assert_eq!(fault(&success), Fault::Guest("kubernetes".to_owned()));
    assert!(matches!(fault(&policy("", "(i32.const 0)")), Fault::Guest(_)));
    assert_eq!(fault(&policy("", "(i32.const 1)")), Fault::NoAnswer("validate".to_owned()));
    // A failed call with an answer is a failed call.
    let both = policy("", "(call $guest_response (i32.const 0) (i32.const 10)) (i32.const 0)");
    assert!(matches!(fault(&both), Fault::Guest(_)));
}

#[test]
fn an_unknown_import_fails_when_it_is_called_and_by_name() {
    let import = |body: &str| {
        wat::parse_str(format!(
            r#"(module (import "env" "abort" (func $abort (param i64) (result f32)))
                 (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
                 (memory (export "memory") 1)
                 (func (export "__guest_call") (param i32 i32) (result i32)
                   {body} (call $guest_response (i32.const 0) (i32.const 0)) (i32.const 1)))"#
        ))
        .unwrap()
    };
    assert_eq!(outcome(&import("")).unwrap(), b"");
    let error = outcome(&import("(drop (call $abort (i64.const 1)))")).unwrap_err();
    assert_eq!(error.fault(), &Fault::UnknownImport("env.abort".to_owned()));
    assert_eq!(error.to_string(), "module \"bad\": called `env.abort`, a function that this host does not have");
}

#[test]
fn imports_that_cannot_be_given_are_told_when_the_module_is_loaded() {
    let imports = [
        (r#"(import "env" "memory" (memory 1))"#, "env"),
        (r#"(import "env" "base" (global i32))"#, "base"),
        (r#"(import "wapc" "__guest_response" (func (param i64 i32)))"#, "__guest_response"),
    ];
    for (import, named) in imports {
        let module = wat::parse_str(format!(
            r#"(module {import} (memory $own 1) (export "memory" (memory $own))
                 (func (export "__guest_call") (param i32 i32) (result i32) (i32.const 0)))"#
        ));
        let error = outcome(&module.unwrap()).unwrap_err();
        assert!(matches!(error.fault(), Fault::Link(reason) if reason.contains(named)), "{error}");
    }
}

#[test]
fn what_is_no_policy_is_told_apart() {
    let memory = r#"(memory (export "memory") 1)"#;
    let call = r#"(func (export "__guest_call") (param i32 i32) (result i32) (i32.const 0))"#;
    let cases = [
        (String::new(), "it exports no function `__guest_call`"),
        (call.to_owned(), "it exports no memory named `memory`"),
        (memory.to_owned(), "it exports no function `__guest_call`"),
        (format!(r#"{memory} (func (export "__guest_call"))"#), "its `__guest_call` is not a function of two i32"),
        (format!(r#"{memory} (global (export "__guest_call") i32 (i32.const 0))"#), "its `__guest_call` is not"),
        (
            format!(r#"{memory} {call} (func (export "wapc_init") (param i32))"#),
            "its `wapc_init` is not a function without",
        ),
        (format!(r#"(memory (export "memory") i64 1) {call}"#), "its `memory` is not a memory of 32 bits"),
        (format!(r#"{memory} (func (export "opa_eval_ctx_new"))"#), "it is written in Rego"),
    ];
    for (definitions, expected) in cases {
        let error = outcome(&wat::parse_str(format!("(module {definitions})")).unwrap()).unwrap_err();
        assert!(matches!(error.fault(), Fault::NotAPolicy(reason) if reason.starts_with(expected)), "{error}");
    }
}

#[test]
fn what_is_no_module_is_told_apart() {
    let sound = policy("", ECHO);
    let cases: [(&[u8], &str); 5] = [
        (b"", "empty"),
        (b"apiVersion: v1", "does not begin"),
        (b"(module)", "text"),
        (b"\0asm\x0d\0\x01\0", "component"),
        (&sound[..sound.len() - 5], ""),
    ];
    for (bytes, expected) in cases {
        let error = outcome(bytes).unwrap_err();
        assert!(matches!(error.fault(), Fault::Invalid(reason) if reason.contains(expected)), "{error}");
    }
    let large = Limits { module: 100, ..limits() };
    let error = Engine::new(large).unwrap().compile("large", &sound).unwrap_err();
    assert_eq!(error.fault(), &Fault::Limit(Limit::Module { allowed: 100, wanted: sound.len() as u64 }));
}

#[test]
fn damaged_modules_never_bring_the_checker_down() {
    let sound = policy(r#"(table 4 funcref) (func (export "wapc_init"))"#, ECHO);
    let engine = Engine::new(Limits { time: Duration::from_millis(20), ..limits() }).unwrap();
    let host = no_cluster();
    let (mut number, mut loaded, mut refused) = (7_u64, 0, 0);
    for _ in 0..400 {
        let mut bytes = sound.clone();
        for _ in 0..2 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(number >> 33).unwrap() % bytes.len();
            bytes[at] = number.to_le_bytes()[3];
        }
        match engine.compile("damaged", &bytes).and_then(|module| module.call("validate", b"{}", &host)) {
            Ok(_) => loaded += 1,
            Err(error) => {
                assert_eq!(error.module(), "damaged");
                refused += 1;
            }
        }
    }
    assert!(loaded > 0 && refused > 0, "{loaded} ran, {refused} did not");
}

#[test]
fn metadata_that_cannot_be_read_is_told() {
    let text = r#"(module (memory (export "memory") 1) (@custom "io.kubewarden.metadata" "{\"rules\": 5}")
                    (func (export "__guest_call") (param i32 i32) (result i32) (i32.const 0)))"#;
    assert!(
        matches!(fault(&wat::parse_str(text).unwrap()), Fault::Metadata(reason) if reason.contains("expected a sequence"))
    );
}

#[test]
fn metadata_is_read() {
    let text = r#"(module (memory (export "memory") 1)
                    (@custom "io.kubewarden.metadata" "{\"protocolVersion\":\"v1\",\"rules\":[],\"mutating\":true}")
                    (func (export "__guest_call") (param i32 i32) (result i32) (i32.const 0)))"#;
    let engine = Engine::new(limits()).unwrap();
    let module = engine.compile("with", &wat::parse_str(text).unwrap()).unwrap();
    assert_eq!(module.metadata().map(|metadata| metadata.mutating), Some(true));
    assert_eq!(engine.compile("without", &policy("", ECHO)).unwrap().metadata(), None);
}

/// Answers anything with `answer`.
fn answering(answer: &str) -> Module {
    let escaped = answer.replace('"', "\\\"");
    let respond = format!("(call $guest_response (i32.const 64) (i32.const {})) (i32.const 1)", answer.len());
    let wasm = policy(&format!(r#"(data (i32.const 64) "{escaped}")"#), &respond);
    Engine::new(limits()).unwrap().compile("answers", &wasm).unwrap()
}

#[test]
fn answers_are_read_as_the_host_reads_them() {
    let host = no_cluster();
    let nulls = r#"{"accepted":true,"message":null,"code":null,"mutated_object":null,"audit_annotations":null,"warnings":null}"#;
    let short = r#"{"accepted":true}"#;
    let read = |answer| answering(answer).validate(b"{}", b"{}", &host).unwrap();
    assert_eq!(read(nulls), read(short));
    assert!(read(short).accepted && read(short).message.is_none() && read(short).mutated_object.is_none());

    let full = read(
        r#"{"accepted":false,"message":"no","code":403,"mutated_object":{"a":[1]},"audit_annotations":{"k":"v"},"warnings":["w"],"new":1}"#,
    );
    assert_eq!((full.accepted, full.message.as_deref(), full.code), (false, Some("no"), Some(403)));
    assert_eq!(full.mutated_object, Some(serde_json::json!({"a": [1]})));
    assert_eq!(full.audit_annotations.unwrap()["k"], "v");
    assert_eq!(full.warnings.unwrap(), ["w"]);

    let settings = answering(r#"{"valid":false,"message":"unknown key"}"#).validate_settings(b"{}", &host).unwrap();
    assert_eq!(settings, SettingsValidationResponse { valid: false, message: Some("unknown key".to_owned()) });
    assert_eq!(answering("\"v1\"").protocol_version(&host).unwrap(), ProtocolVersion::V1);
}

#[test]
fn an_answer_of_another_form_is_told() {
    let host = no_cluster();
    for answer in
        ["", "null", "{}", r#"{"accepted":"yes"}"#, r#"{"accepted":true,"code":70000}"#, "{\"accepted\":true}x"]
    {
        let error = answering(answer).validate(b"{}", b"{}", &host).unwrap_err();
        assert!(matches!(error.fault(), Fault::Answer { operation: "validate", .. }), "{answer}: {error}");
    }
    assert!(answering("{}").validate_settings(b"{}", &host).is_err());
    assert!(answering("\"v2\"").protocol_version(&host).is_err());
}

#[test]
fn validate_sends_request_and_settings() {
    let engine = Engine::new(limits()).unwrap();
    let echo = engine.compile("echo", &policy("", ECHO)).unwrap();
    let error = echo.validate(br#"{"uid":"1"}"#, br#"{"a":2}"#, &no_cluster()).unwrap_err();
    assert!(error.to_string().contains("missing field `accepted`"), "{error}");
    let sent = echo.call("validate", br#"{"request":{"uid":"1"},"settings":{"a":2}}"#, &no_cluster()).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(read, serde_json::json!({"request": {"uid": "1"}, "settings": {"a": 2}}));
}

#[test]
fn random_numbers_are_the_same_in_each_evaluation() {
    let random = policy(
        "",
        "(drop (call $random_get (i32.const 0) (i32.const 32)))
                             (call $guest_response (i32.const 0) (i32.const 32)) (i32.const 1)",
    );
    let one = outcome(&random).unwrap();
    assert_eq!(one, outcome(&random).unwrap());
    assert!(one.iter().any(|byte| *byte != one[0]));
}

#[test]
fn wasi_has_a_clock_and_neither_files_nor_arguments() {
    // Each function's error number, one byte each.
    let text = r#"(module
        (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open"
          (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
        (memory (export "memory") 1)
        (func (export "__guest_call") (param i32 i32) (result i32)
          (i32.store (i32.const 100) (i32.const -1))
          (i32.store8 (i32.const 0) (call $clock (i32.const 0) (i64.const 0) (i32.const 64)))
          (i32.store8 (i32.const 1) (call $clock (i32.const 9) (i64.const 0) (i32.const 72)))
          (i32.store8 (i32.const 2) (call $args (i32.const 100) (i32.const 104)))
          (i32.store8 (i32.const 3) (call $prestat (i32.const 3) (i32.const 0)))
          (i32.store8 (i32.const 4) (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                                      (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))
          (i32.store8 (i32.const 5) (call $seek (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 0)))
          (i32.store8 (i32.const 6) (call $yield))
          (i32.store8 (i32.const 7) (i32.load (i32.const 100)))
          (i32.store8 (i32.const 8) (i64.gt_u (i64.load (i32.const 64)) (i64.const 1700000000000000000)))
          (call $guest_response (i32.const 0) (i32.const 9)) (i32.const 1)))"#;
    assert_eq!(outcome(&wat::parse_str(text).unwrap()).unwrap(), [0, 28, 0, 8, 8, 70, 0, 0, 1]);
}

#[test]
fn a_third_party_policy_has_an_instance_of_its_own_for_every_evaluation() {
    let count = policy(
        "(global $count (mut i32) (i32.const 0))",
        "(global.set $count (i32.add (global.get $count) (i32.const 1)))
         (i32.store (i32.const 0) (global.get $count))
         (call $guest_response (i32.const 0) (i32.const 4)) (i32.const 1)",
    );
    let module = Engine::new(limits()).unwrap().compile("counts", &count).unwrap();
    for _ in 0..3 {
        assert_eq!(module.call("validate", b"", &no_cluster()).unwrap(), 1_u32.to_le_bytes());
    }
}

#[test]
fn many_threads_share_a_module() {
    let limits = Limits { time: Duration::from_secs(20), ..limits() };
    let module = Engine::new(limits).unwrap().compile("echo", &policy("", ECHO)).unwrap();
    let host = no_cluster();
    (0..500_u32).into_par_iter().for_each(|number| {
        let payload = number.to_string();
        assert_eq!(module.call("validate", payload.as_bytes(), &host).unwrap(), payload.as_bytes());
    });
}

#[test]
fn every_built_in_policy_is_compiled_ahead_and_speaks_the_protocol() {
    let engine = Engine::new(Limits { time: Duration::from_secs(20), ..Limits::default() }).unwrap();
    assert!(!builtins().is_empty());
    for builtin in builtins() {
        assert!(builtin.is_precompiled(), "{}", builtin.name());
        assert_eq!(builtin.digest().len(), 64);
        let module = engine.builtin(builtin).unwrap();
        assert_eq!(module.name(), builtin.name());
        assert!(module.metadata().is_some_and(|metadata| !metadata.rules.is_empty()), "{}", builtin.name());
        assert_eq!(module.protocol_version(&no_cluster()).unwrap(), ProtocolVersion::V1);
        // An instance that is used again knows nothing of the call before.
        for _ in 0..2 {
            let error = module.call("no-such-operation", b"{}", &no_cluster()).unwrap_err();
            let expected = "No handler registered for function no-such-operation";
            assert!(matches!(error.fault(), Fault::Guest(text) if text.contains(expected)), "{error}");
        }
        // As it is distributed, it does the same.
        let distributed = engine.compile(builtin.name(), builtin.wasm()).unwrap();
        assert_eq!(distributed.metadata(), module.metadata());
        assert_eq!(distributed.protocol_version(&no_cluster()).unwrap(), ProtocolVersion::V1);
    }
}
