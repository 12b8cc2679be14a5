//! Stands in for the API server and the Kubewarden host: resources, admission requests, look-ups.
