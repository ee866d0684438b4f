//! The training loop as a whole: it learns, it resumes bit for bit, it stops when it must.

mod ahead;
mod card;
mod guards;
mod learning;
mod lost;
mod machines;
mod refusals;
mod resume;
mod samples;
mod saving;
