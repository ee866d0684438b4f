//! Our S3 store against a server that other people wrote: the same contract as the folder's, and what only a server has.

mod contract;
mod keys;
mod moto;
mod server;
mod wire;
