//! Reads Kubernetes manifests as kubectl does, and remembers where each field stands.
