//! What a Quorate policy is: request, settings, findings, verdict, and the glue to the Kubewarden host.
