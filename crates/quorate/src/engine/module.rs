//! A loaded module, and the evaluations of it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::de::DeserializeOwned;
use wasmtime::{ExternType, InstancePre, Linker, Store, Trap, TypedFunc, UnknownImportError, UpdateDeadline, ValType};

use super::Host;
use super::answer::{ProtocolVersion, SettingsValidationResponse, ValidationResponse};
use super::error::{EngineError, Fault};
use super::limits::{Limit, Limits};
use super::state::State;
use super::ticker::Ticker;

/// What modules of one engine share.
pub(super) struct Shared {
    pub(super) engine: wasmtime::Engine,
    pub(super) linker: Linker<State>,
    pub(super) limits: Arc<Limits>,
    pub(super) ticker: Ticker,
}

/// A policy, compiled and ready. Clones share everything; any number of threads may call one at the same time.
#[derive(Clone)]
pub struct Module(Arc<Loaded>);

struct Loaded {
    name: Arc<str>,
    metadata: Option<annotate::Metadata>,
    shared: Arc<Shared>,
    instances: InstancePre<State>,
    /// Instances that wait for the next call; `None` where each call must have its own.
    idle: Option<Mutex<Vec<Instance>>>,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// One instance with its memory.
struct Instance {
    store: Store<State>,
    guest_call: TypedFunc<(u32, u32), u32>,
}

impl Module {
    /// Links a compiled module. With `reuse`, an instance serves many evaluations.
    pub(super) fn link(
        shared: &Arc<Shared>,
        name: &Arc<str>,
        module: &wasmtime::Module,
        metadata: Option<annotate::Metadata>,
        reuse: bool,
    ) -> Result<Self, EngineError> {
        let fail = |fault: Fault| EngineError::new(name, fault);
        check_exports(module).map_err(fail)?;
        check_definitions(module, &shared.limits).map_err(|limit| fail(limit.into()))?;
        let link_fault = |error: wasmtime::Error| fail(Fault::Link(format!("{error:#}")));
        let mut linker = shared.linker.clone();
        linker.define_unknown_imports_as_traps(module).map_err(link_fault)?;
        let instances = linker.instantiate_pre(module).map_err(link_fault)?;
        Ok(Self(Arc::new(Loaded {
            name: Arc::clone(name),
            metadata,
            shared: Arc::clone(shared),
            instances,
            idle: reuse.then(Mutex::default),
        })))
    }

    /// The name that it was loaded under.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The content of its `io.kubewarden.metadata` section. Kubewarden's hosts refuse a module without one.
    pub fn metadata(&self) -> Option<&annotate::Metadata> {
        self.0.metadata.as_ref()
    }

    /// Calls one operation of the policy; `host` answers what the policy asks meanwhile.
    ///
    /// # Errors
    /// [`Fault::Guest`] is the policy's own error; all others say that the module misbehaved. No state of the failed
    /// evaluation is left: the next one begins afresh.
    pub fn call(&self, operation: &str, payload: &[u8], host: &Arc<dyn Host>) -> Result<Vec<u8>, EngineError> {
        self.evaluate(operation, payload, host).map_err(|fault| EngineError::new(&self.0.name, fault))
    }

    /// Asks the policy about a request. Both texts are JSON: the request as the API server would send it, the
    /// settings an object.
    ///
    /// # Errors
    /// As [`Module::call`], and [`Fault::Answer`] for an answer of another form.
    pub fn validate(
        &self,
        request: &[u8],
        settings: &[u8],
        host: &Arc<dyn Host>,
    ) -> Result<ValidationResponse, EngineError> {
        // A request is written once for all policies, so it is spliced in, not serialised again.
        let payload = [br#"{"request":"#, request, br#","settings":"#, settings, b"}"].concat();
        self.ask("validate", &payload, host)
    }

    /// Asks the policy whether it accepts its settings, a JSON object.
    ///
    /// # Errors
    /// As [`Module::validate`].
    pub fn validate_settings(
        &self,
        settings: &[u8],
        host: &Arc<dyn Host>,
    ) -> Result<SettingsValidationResponse, EngineError> {
        self.ask("validate_settings", settings, host)
    }

    /// Asks the policy which protocol it speaks.
    ///
    /// # Errors
    /// As [`Module::validate`].
    pub fn protocol_version(&self, host: &Arc<dyn Host>) -> Result<ProtocolVersion, EngineError> {
        self.ask("protocol_version", b"", host)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        payload: &[u8],
        host: &Arc<dyn Host>,
    ) -> Result<T, EngineError> {
        let answer = self.call(operation, payload, host)?;
        serde_json::from_slice(&answer)
            .map_err(|error| EngineError::new(&self.0.name, Fault::Answer { operation, reason: error.to_string() }))
    }

    fn evaluate(&self, operation: &str, payload: &[u8], host: &Arc<dyn Host>) -> Result<Vec<u8>, Fault> {
        let Loaded { shared, instances, idle, .. } = &*self.0;
        let _running = shared.ticker.run();
        let began = Instant::now();
        let waiting = idle.as_ref().and_then(|idle| lock(idle).pop());
        let mut instance = match waiting {
            Some(mut instance) => {
                instance.begin(began, host, operation, payload);
                instance
            }
            None => Instance::new(shared, instances, began, host, operation, payload)?,
        };
        let result = instance.call(operation, payload);
        if let Some(idle) = idle
            && matches!(result, Ok(_) | Err(Fault::Guest(_)))
            && instance.store.data().memory_bytes <= shared.limits.retained_memory
        {
            instance.store.data_mut().end();
            lock(idle).push(instance);
        }
        result
    }

    /// How many instances wait for a call.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.0.idle.as_ref().map_or(0, |idle| lock(idle).len())
    }
}

/// The list is whole at any time, whatever happened to the thread that held it.
fn lock(idle: &Mutex<Vec<Instance>>) -> MutexGuard<'_, Vec<Instance>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Instance {
    fn new(
        shared: &Shared,
        instances: &InstancePre<State>,
        began: Instant,
        host: &Arc<dyn Host>,
        operation: &str,
        payload: &[u8],
    ) -> Result<Self, Fault> {
        let mut store = Store::new(&shared.engine, State::new(Arc::clone(&shared.limits)));
        store.limiter(|state| state);
        store.epoch_deadline_callback(|store| {
            store.data().check_time()?;
            Ok(UpdateDeadline::Continue(1))
        });
        store.data_mut().begin(began, host, operation, payload);
        // The clock is looked at with each tick from the next one on, so the limit is kept to a tick.
        store.set_epoch_deadline(1);

        let instance = instances.instantiate(&mut store).map_err(|error| fault(error, "start", store.data()))?;
        for function in ["_start", "wapc_init"] {
            if let Ok(start) = instance.get_typed_func::<(), ()>(&mut store, function)
                && let Err(error) = start.call(&mut store, ())
            {
                match fault(error, function, store.data()) {
                    // TinyGo's `_start` ends so; the policy-server goes on as well.
                    Fault::Exit { code: 0, .. } => {}
                    fault => return Err(fault),
                }
            }
        }
        let guest_call = instance
            .get_typed_func(&mut store, GUEST_CALL)
            .map_err(|error| Fault::NotAPolicy(format!("`{GUEST_CALL}`: {error:#}")))?;
        Ok(Self { store, guest_call })
    }

    fn begin(&mut self, began: Instant, host: &Arc<dyn Host>, operation: &str, payload: &[u8]) {
        self.store.data_mut().begin(began, host, operation, payload);
        self.store.set_epoch_deadline(1);
    }

    fn call(&mut self, operation: &str, payload: &[u8]) -> Result<Vec<u8>, Fault> {
        let length = |bytes: &[u8]| {
            let (allowed, wanted) = (u64::from(u32::MAX), bytes.len() as u64);
            u32::try_from(bytes.len()).map_err(|_| Limit::Memory { allowed, wanted })
        };
        let lengths = (length(operation.as_bytes())?, length(payload)?);
        let called = self.guest_call.call(&mut self.store, lengths);
        let succeeded = called.map_err(|error| fault(error, GUEST_CALL, self.store.data()))?;
        let state = self.store.data_mut();
        match (succeeded, state.response.take(), state.error.take()) {
            (0, _, error) => Err(Fault::Guest(error.unwrap_or_else(|| "it did not say why".to_owned()))),
            (_, Some(response), _) => Ok(response),
            (_, None, Some(error)) => Err(Fault::Guest(error)),
            (_, None, None) => Err(Fault::NoAnswer(operation.to_owned())),
        }
    }
}

const GUEST_CALL: &str = "__guest_call";

/// What an error of the engine means. Our own faults travel inside it.
fn fault(error: wasmtime::Error, function: &'static str, state: &State) -> Fault {
    let error = match error.downcast::<Fault>() {
        Ok(fault) => return fault,
        Err(error) => error,
    };
    if let Some(import) = error.downcast_ref::<UnknownImportError>() {
        return Fault::UnknownImport(format!("{}.{}", import.module(), import.name()));
    }
    let reason = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => return Limit::Stack(state.limits.stack as u64).into(),
        Some(trap) => trap.to_string(),
        None => format!("{error:#}"),
    };
    let reason = reason.strip_prefix("wasm trap: ").unwrap_or(&reason).to_owned();
    Fault::Trap { function, reason, output: state.output() }
}

/// Says early, and clearly, what is missing in a module that was not made for waPC.
fn check_exports(module: &wasmtime::Module) -> Result<(), Fault> {
    let not = |reason: String| Err(Fault::NotAPolicy(reason));
    if module.exports().any(|export| export.name().starts_with("opa_")) {
        return not(
            "it is written in Rego; only policies of the execution mode `kubewarden-wapc` can run here".to_owned()
        );
    }
    match module.get_export(GUEST_CALL) {
        Some(ExternType::Func(kind))
            if kind.params().len() == 2
                && kind.params().chain(kind.results()).all(|one| matches!(one, ValType::I32))
                && kind.results().len() == 1 => {}
        Some(_) => return not(format!("its `{GUEST_CALL}` is not a function of two i32 that gives one")),
        None => return not(format!("it exports no function `{GUEST_CALL}`")),
    }
    for start in ["_start", "wapc_init"] {
        match module.get_export(start) {
            Some(ExternType::Func(kind)) if kind.params().len() == 0 && kind.results().len() == 0 => {}
            Some(_) => return not(format!("its `{start}` is not a function without parameters and results")),
            None => {}
        }
    }
    match module.get_export("memory") {
        Some(ExternType::Memory(memory)) if !memory.is_64() => Ok(()),
        Some(_) => not("its `memory` is not a memory of 32 bits".to_owned()),
        None => not("it exports no memory named `memory`".to_owned()),
    }
}

/// wasmtime would fail too, but with a text only.
fn check_definitions(module: &wasmtime::Module, limits: &Limits) -> Result<(), Limit> {
    let required = module.resources_required();
    for (what, wanted) in [("memories", required.num_memories), ("tables", required.num_tables)] {
        if wanted > limits.definitions {
            return Err(Limit::Definitions { what, allowed: limits.definitions, wanted });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, Host};

    struct Nobody;
    impl Host for Nobody {
        fn call(&self, _: &str, _: &str, _: &str, _: &[u8]) -> Result<Arc<[u8]>, String> {
            Err("nobody".to_owned())
        }
        fn console_log(&self, _: &str) {}
    }

    /// Counts its calls; `g` grows its memory by 1 MiB, `t` traps, `e` is an error.
    const COUNTER: &str = r#"(module
        (import "wapc" "__guest_request" (func $request (param i32 i32)))
        (import "wapc" "__guest_response" (func $response (param i32 i32)))
        (memory (export "memory") 1)
        (global $count (mut i32) (i32.const 0))
        (func $is (param i32) (result i32) (i32.eq (i32.load8_u (i32.const 0)) (local.get 0)))
        (func (export "__guest_call") (param i32 i32) (result i32)
          (call $request (i32.const 0) (i32.const 16))
          (global.set $count (i32.add (global.get $count) (i32.const 1)))
          (if (call $is (i32.const 103)) (then (drop (memory.grow (i32.const 16)))))
          (if (call $is (i32.const 116)) (then (unreachable)))
          (if (call $is (i32.const 101)) (then (return (i32.const 0))))
          (i32.store8 (i32.const 32) (global.get $count))
          (call $response (i32.const 32) (i32.const 1)) (i32.const 1)))"#;

    #[test]
    fn an_instance_is_used_again_until_it_fails_or_has_grown() {
        let limits = Limits { retained_memory: 1 << 20, ..Limits::default() };
        let engine = Engine::new(limits).unwrap();
        let wasm = wat::parse_str(COUNTER).unwrap();
        let module = engine.compile_with(&Arc::from("counter"), &wasm, true).unwrap();
        let host: Arc<dyn Host> = Arc::new(Nobody);
        let count = |operation| module.call(operation, b"", &host).map(|answer| answer[0]);

        assert_eq!((count("a").unwrap(), count("a").unwrap(), module.idle()), (1, 2, 1));
        // The policy's own error is no reason to distrust the instance.
        assert!(count("e").is_err());
        assert_eq!((count("a").unwrap(), module.idle()), (4, 1));
        assert!(count("t").is_err());
        assert_eq!((module.idle(), count("a").unwrap(), count("g").unwrap()), (0, 1, 2));
        assert_eq!((module.idle(), count("a").unwrap()), (0, 1));
        // Nobody's host is kept by an idle instance.
        assert_eq!((module.idle(), Arc::strong_count(&host)), (1, 1));
    }
}
