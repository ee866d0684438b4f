//! One module a stage: how many tasks it has, what a task does, and what closes it.

pub(crate) mod cpt;
pub(crate) mod dedup;
pub(crate) mod evaluate;
pub(crate) mod ingest;
pub(crate) mod instruct;
pub(crate) mod instruct_data;
pub(crate) mod mix;
pub(crate) mod pack;
pub(crate) mod publish;
pub(crate) mod report;
pub(crate) mod tokenize;
