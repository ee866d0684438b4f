//! The PubMed and JATS readers together: real files, and hostile ones.

mod hostile;
mod real;
