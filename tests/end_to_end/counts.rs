//! Every count of the quickstart is known in advance from how its fixtures were made.
