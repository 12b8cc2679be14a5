//! The chores of the workspace: new policy, annotate, generated files, tidy.
