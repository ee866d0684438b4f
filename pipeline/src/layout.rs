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

/// The folder that an object of this name lies in; `None` where it is not this program's.
pub(crate) fn folder_of(key: &str) -> Option<&'static Folder> {
    FOLDERS.iter().find(|folder| key.starts_with(folder.name))
}
