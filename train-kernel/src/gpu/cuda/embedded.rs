//! The kernels that were compiled when this program was built: none, unless `MELLAMA_CUBINS` named a folder of them (`build.rs`).

/// The files of that folder: their names, which are those of the cache, and their sealed bytes.
pub(super) const CUBINS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded_cubins.rs"));
