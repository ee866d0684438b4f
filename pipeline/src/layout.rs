//! The folders of a work folder: who writes into them, and who reads what lies there.

use crate::stage::Stage;

/// A folder that this program writes. What lies elsewhere is somebody else's.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Its name with the slash at its end.
    pub name: &'static str,
    /// Stages that publish objects in it; none where they are made and removed before any stage.
    pub writers: &'static [Stage],
    /// Stages that read its objects; none where only people and lookups do.
    pub readers: &'static [Stage],
}

/// Every folder, but those of the records: `commits/`, `manifests/` and `retractions/`.
pub(crate) const FOLDERS: [Folder; 22] = [
    folder(".probe/", &[], &[]),
    // Read by training that goes on, and the last one by what follows; records do not name the earlier ones.
    folder("checkpoints/", &[Stage::Cpt, Stage::Instruct], &[]),
    folder("contamination/", &[Stage::Dedup], &[]),
    folder("conversations/", &[Stage::InstructData], &[]),
    folder("decisions/", &[Stage::Dedup], &[]),
    folder("dedup/", &[Stage::Dedup], &[Stage::Dedup]),
    folder("documents/", &[Stage::Ingest], &[Stage::Dedup, Stage::Tokenize, Stage::Publish]),
    folder("drops/", &[Stage::Ingest], &[]),
    folder("evaluation/", &[Stage::Evaluate], &[]),
    folder("metrics/", &[Stage::Cpt, Stage::Instruct], &[Stage::Cpt, Stage::Instruct, Stage::Report]),
    folder("mix/", &[Stage::Mix], &[Stage::Pack]),
    folder("overlaps/", &[Stage::Ingest], &[Stage::Dedup]),
    folder("packed/", &[Stage::Pack], &[Stage::Pack, Stage::Publish]),
    folder("phi/", &[Stage::Ingest], &[]),
    folder("rejects/", &[Stage::Ingest, Stage::InstructData], &[]),
    folder("removed/", &[Stage::Dedup], &[Stage::Tokenize]),
    folder("sequence/", &[Stage::Ingest], &[Stage::Dedup]),
    folder("shards/cpt/", &[Stage::Publish], &[Stage::Cpt]),
    folder("shards/instruct/", &[Stage::InstructData], &[Stage::Instruct]),
    folder("signatures/", &[Stage::Ingest], &[Stage::Dedup]),
    folder("tokens/", &[Stage::Tokenize], &[Stage::Mix, Stage::Publish]),
    folder("withdrawals/", &[Stage::Ingest], &[]),
];

const fn folder(name: &'static str, writers: &'static [Stage], readers: &'static [Stage]) -> Folder {
    Folder { name, writers, readers }
}

/// What the names of event files end in before the digest.
const EVENTS: &str = ".mellama-";
/// What the names of timed steps have before the digest.
const TIMED: &str = ".timed-";
/// Hexadecimal digits of an object's content that its name carries.
const DIGEST_DIGITS: usize = 16;

/// Names of what holds the times of a training's steps up to a checkpoint: no record names them, as every run writes other bytes;
/// their names say what they hold, and they are kept.
pub(crate) fn timed_steps(kind: &str, step: u64, bytes: &[u8]) -> String {
    format!("metrics/{kind}-{step:08}{TIMED}{}.jsonl", digest_of(bytes))
}

/// The same of the event file of `TensorBoard`, which reads files in the order of their names.
pub(crate) fn event_file(kind: &str, step: u64, bytes: &[u8]) -> String {
    format!("metrics/tensorboard/{kind}/events.out.tfevents.{step:010}{EVENTS}{}", digest_of(bytes))
}

/// The digest in the name of an object that holds times; `None` where it is none.
pub(crate) fn telemetry_digest(key: &str) -> Option<&str> {
    let name = key.strip_prefix("metrics/")?;
    let digest = match name.strip_suffix(".jsonl") {
        Some(name) => name.rsplit_once(TIMED)?.1,
        None => name.strip_prefix("tensorboard/")?.rsplit_once(EVENTS)?.1,
    };
    (digest.len() == DIGEST_DIGITS).then_some(digest)
}

/// The step up to which an object holds the times of a kind of training; `None` where it holds none.
pub(crate) fn telemetry_step(key: &str, kind: &str) -> Option<u64> {
    telemetry_digest(key)?;
    let name = key.strip_prefix("metrics/")?;
    let rest = match name.strip_prefix("tensorboard/") {
        Some(name) => name.strip_prefix(kind)?.strip_prefix("/events.out.tfevents.")?,
        None => name.strip_prefix(kind)?.strip_prefix('-')?,
    };
    rest.split('.').next()?.parse().ok()
}

/// Whether bytes are those of which a name says the digest.
pub(crate) fn is_content(bytes: &[u8], digest: &str) -> bool {
    digest_of(bytes) == digest
}

fn digest_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..DIGEST_DIGITS].to_owned()
}

/// The folder that an object of this name lies in; `None` where it is not this program's.
pub(crate) fn folder_of(key: &str) -> Option<&'static Folder> {
    FOLDERS.iter().find(|folder| key.starts_with(folder.name))
}

#[cfg(test)]
mod tests {
    use super::{event_file, is_content, telemetry_digest, telemetry_step, timed_steps};

    #[test]
    fn names_of_times_say_what_they_hold() {
        for name in [timed_steps("cpt", 100, b"line"), event_file("instruct", 7, b"line")] {
            let digest = telemetry_digest(&name).unwrap_or_else(|| panic!("{name}"));
            assert!(is_content(b"line", digest) && !is_content(b"lint", digest), "{name}");
        }
        assert_eq!(telemetry_step(&timed_steps("cpt", 100, b""), "cpt"), Some(100));
        assert_eq!(telemetry_step(&event_file("cpt", 100, b""), "cpt"), Some(100));
        assert_eq!(telemetry_step(&event_file("cpt", 100, b""), "instruct"), None);
        for name in ["metrics/cpt-00000100.jsonl", "metrics/tensorboard/cpt/notes", "shards/a.timed-0123456789abcdef.jsonl"] {
            assert_eq!(telemetry_digest(name), None);
        }
    }
}
