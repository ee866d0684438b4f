//! What algorithms of matrix products were chosen on this machine before, so that the next run chooses the same and has the same
//! bits: timings differ from one run to the next, and decide between algorithms that sum in other orders.

use std::io;

use super::cache::Cache;
use super::products::ProductTable;

/// The choices of one card and one library, kept beside the compiled kernels.
#[derive(Clone, Debug)]
pub(super) struct Known {
    cache: Option<Cache>,
    name: String,
    table: ProductTable,
}

impl Known {
    /// Those of an empty table's card and library; none where they were not kept, or are damaged.
    pub(super) fn of(empty: &ProductTable, cache: Option<Cache>) -> Self {
        let digest = blake3::hash(empty.device_name.as_bytes()).to_hex();
        let name = format!("products-{}-{}", empty.library_version, &digest[..40]);
        let mut known = Self { cache, name, table: empty.clone() };
        if let Some(kept) = known.read() {
            known.table = kept;
        }
        known
    }

    /// The choices.
    pub(super) fn table(&self) -> &ProductTable {
        &self.table
    }

    /// Adds a choice, and keeps it. What another program kept meanwhile stays, and is taken over by the next run; what was known
    /// before and is of no use here is replaced.
    ///
    /// # Errors
    /// When the folder cannot be written; they are known to this run all the same.
    pub(super) fn add(&mut self, chosen: &ProductTable, product: &str) -> io::Result<()> {
        let Some(algorithm) = chosen.entries.get(product) else { return Ok(()) };
        let useless = self.table.entries.insert(product.to_owned(), algorithm.clone());
        let Some(cache) = &self.cache else { return Ok(()) };
        let mut kept = self.table.clone();
        let others = self.read().map(|kept| kept.entries).unwrap_or_default();
        kept.entries.extend(others.into_iter().filter(|(name, kept)| name != product || Some(kept) != useless.as_ref()));
        cache.write(&self.name, &serde_json::to_vec(&kept).expect("names and digits are JSON"))
    }

    /// What is kept now.
    fn read(&self) -> Option<ProductTable> {
        let kept: ProductTable = serde_json::from_slice(&self.cache.as_ref()?.read(&self.name)?).ok()?;
        kept.is_of(self.table.library_version, &self.table.device_name).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::super::cache::Cache;
    use super::{Known, ProductTable};

    fn table(device_name: &str, entries: &[(&str, &str)]) -> ProductTable {
        let entries: BTreeMap<String, String> = entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ProductTable { library_version: 120_804, device_name: device_name.to_owned(), entries }
    }

    #[test]
    fn the_first_choice_on_a_machine_stays_for_this_card_and_library() {
        let folder = tempfile::tempdir().unwrap();
        let open = |empty: &ProductTable| Known::of(empty, Some(Cache::at(folder.path().to_owned())));
        let empty = table("X", &[]);
        let (mut first, mut second) = (open(&empty), open(&empty));
        assert_eq!(first.table(), &empty);
        first.add(&table("X", &[("a", "1")]), "a").unwrap();
        // Both chose at once: the first one stays for those that come later, and nothing of the other product is lost.
        second.add(&table("X", &[("a", "2"), ("b", "3")]), "a").unwrap();
        second.add(&table("X", &[("a", "2"), ("b", "3")]), "b").unwrap();
        assert_eq!(second.table(), &table("X", &[("a", "2"), ("b", "3")]));
        assert_eq!(open(&empty).table(), &table("X", &[("a", "1"), ("b", "3")]));
        assert_eq!(open(&table("Y", &[])).table(), &table("Y", &[]));
        assert_eq!(open(&ProductTable { library_version: 130_000, ..empty.clone() }).table().entries, BTreeMap::new());
        // Chosen again, because what was kept is of no use.
        let mut third = open(&empty);
        third.add(&table("X", &[("b", "4")]), "b").unwrap();
        assert_eq!(open(&empty).table(), &table("X", &[("a", "1"), ("b", "4")]));
        for file in fs::read_dir(folder.path()).unwrap() {
            fs::write(file.unwrap().path(), "damaged").unwrap();
        }
        assert_eq!(open(&empty).table(), &empty);
        let mut kept_nowhere = Known::of(&empty, None);
        kept_nowhere.add(&table("X", &[("a", "1")]), "a").unwrap();
        assert_eq!(kept_nowhere.table(), &table("X", &[("a", "1")]));
    }
}
