//! The glue to the Kubewarden host: waPC operations in, host calls out.

use kubewarden_policy_sdk::protocol_version_guest;
use wapc_guest::{host_call, register_function};

use crate::{Host, Policy, heap};

/// Registers the three operations of the Kubewarden protocol for `P`.
pub fn register<P: Policy>() {
    register_function("validate", |payload| Ok(heap::evaluate(|| crate::validate::<P>(payload, &Wapc))));
    register_function("validate_settings", |payload| Ok(heap::evaluate(|| crate::validate_settings::<P>(payload))));
    register_function("protocol_version", protocol_version_guest);
}

/// The host on the other side of the waPC protocol.
#[derive(Debug)]
struct Wapc;

impl Host for Wapc {
    fn call(&self, namespace: &str, operation: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
        host_call("kubewarden", namespace, operation, payload).map_err(|error| error.to_string())
    }
}
