//! The policies' own cases, through the modules in this binary: what a rule does natively its module does too.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for other code")]

use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use corpus::World;
use quorate::engine::{Engine, Host, Limits, Module, builtins};

/// A question of a guest, and where the answer goes.
struct Question {
    binding: String,
    namespace: String,
    operation: String,
    payload: Vec<u8>,
    reply: Sender<Result<Arc<[u8]>, String>>,
}

/// The world of a case lives on its own thread: a host has to live for as long as anybody holds it.
struct Remote(Mutex<Sender<Question>>);

impl Host for Remote {
    fn call(&self, binding: &str, namespace: &str, operation: &str, payload: &[u8]) -> Result<Arc<[u8]>, String> {
        let (reply, answer) = mpsc::channel();
        let question = Question {
            binding: binding.to_owned(),
            namespace: namespace.to_owned(),
            operation: operation.to_owned(),
            payload: payload.to_vec(),
            reply,
        };
        self.0.lock().unwrap().send(question).map_err(|error| error.to_string())?;
        answer.recv().map_err(|error| error.to_string())?
    }

    fn console_log(&self, _line: &str) {}
}

fn judge(module: &Module, payload: &[u8], world: &World) -> Result<Vec<u8>, String> {
    let (ask, questions) = mpsc::channel::<Question>();
    thread::scope(|scope| {
        let guest = scope.spawn(move || {
            let host: Arc<dyn Host> = Arc::new(Remote(Mutex::new(ask)));
            module.call("validate", payload, &host).map_err(|error| error.to_string())
        });
        // Ends when the guest has, and its host with it.
        for question in questions {
            let Question { binding, namespace, operation, payload, reply } = question;
            let answer =
                world.cluster().host_call(world.grants(), &binding, &namespace, &operation, &payload, &mut |_| {});
            drop(reply.send(answer.map_err(|error| error.to_string())));
        }
        guest.join().unwrap()
    })
}

#[test]
fn every_case_has_the_same_outcome_in_the_module() {
    let engine = Engine::new(Limits::default()).unwrap();
    for builtin in builtins() {
        let module = engine.builtin(builtin).unwrap();
        corpus::check_with(builtin.name(), &|payload, world| judge(&module, payload, world));
    }
}

#[test]
fn every_policy_of_the_workspace_is_built_in() {
    let folders: BTreeSet<String> = fs::read_dir(corpus::root().join("policies"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("Cargo.toml").is_file())
        .map(|folder| folder.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let built_in: BTreeSet<String> = builtins().iter().map(|builtin| builtin.name().to_owned()).collect();
    assert_eq!(built_in, folders, "QUORATE_MODULES names a folder that holds others");
}
