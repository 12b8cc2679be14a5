//! The offline checker: runs Kubewarden policies over plain manifests.

pub mod engine;
