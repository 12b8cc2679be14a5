//! Workloads inside Kubernetes objects: pods, containers, selectors, quantities, and the catalogue of quorum systems.
