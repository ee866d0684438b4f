//! The same path over real public files, every count asserted.
