//! What happens to a run when machines, disks and networks misbehave: every call to a store fails once, before and after it took
//! effect, in a folder and on the wire in front of a server. After a rerun the objects are those of an undisturbed run.

mod every_call;
mod every_request;
mod small_run;
