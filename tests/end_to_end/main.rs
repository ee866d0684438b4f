//! End-to-end tests: a recipe in, the program run as a child process, manifests and exit codes checked. One binary.

mod archives;
mod bad_input;
mod bucket;
mod cleaning;
mod clinical;
mod commands;
mod contamination;
mod counts;
mod dedup;
mod determinism;
mod edges;
mod export;
mod gc;
mod kill;
mod limits;
mod mixture;
mod project;
mod published;
mod real_sample;
mod retraction;
mod secrets;
mod sequence;
mod server;
mod splits;
mod tasks;
mod verification;
