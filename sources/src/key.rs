//! Keys of documents and conversations: what a text is, in 16 bytes, so that no two of a run are taken for one another.
//!
//! It stores and prints nothing: a key is made once, beside the text, and lies at rest from then on.

use crate::conversation::{Conversation, Turn};
use crate::document::Document;

/// The version under which conversations have their keys: their records have none.
pub const CONVERSATION_VERSION: u32 = 1;

/// Key of a document: the first 16 bytes, read little-endian, of BLAKE3 over source, NUL, native id, NUL, the version in decimal,
/// NUL and the 32 bytes of BLAKE3 over the text.
///
/// A source has no NUL and what follows the native id has no free length but the digits of the version, so unequal documents
/// are unequal input. Frozen: it stands in documents, token runs and segments.
pub fn document_key(source: &str, native_id: &str, version: u32, text: &str) -> u128 {
    key(source, native_id, version, &blake3::hash(text.as_bytes()))
}

impl Document {
    /// [`document_key`] of the text as it stands now.
    pub fn key(&self) -> u128 {
        document_key(&self.source, &self.native_id, self.version, &self.text)
    }
}

impl Conversation {
    /// The key of a conversation: that of a document of version [`CONVERSATION_VERSION`] with the digest of its turns in the
    /// place of its text's: BLAKE3 over the role's name, NUL, the length of the text as u64 and the text of each turn.
    pub fn key(&self) -> u128 {
        key(&self.source, &self.native_id, CONVERSATION_VERSION, &turns_digest(&self.turns))
    }
}

fn turns_digest(turns: &[Turn]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for Turn { role, text } in turns {
        hasher.update(role.as_str().as_bytes()).update(b"\0");
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    hasher.finalize()
}

fn key(source: &str, native_id: &str, version: u32, text: &blake3::Hash) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(source.as_bytes()).update(b"\0").update(native_id.as_bytes()).update(b"\0");
    hasher.update(version.to_string().as_bytes()).update(b"\0").update(text.as_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::conversation::Role;
    use crate::document::{Domain, Origin, Sensitivity};

    fn hex(key: u128) -> String {
        format!("{:032x}", key.swap_bytes())
    }

    /// Computed by the Python package blake3 from the formula of `docs/formats.md`.
    #[test]
    fn golden_document_keys() {
        let check = |source, native_id, version, text, expected: &str| {
            assert_eq!(hex(document_key(source, native_id, version, text)), expected, "{source} {native_id} {version}");
        };
        check("pubmed", "12345", 1, "Aspirin in mice.", "71ae9cffd298b8018190f97e3bd45327");
        check("", "", 0, "", "d6fed0b3065d934a7131287ca5f75099");
        check("notes", "a\u{0}b", u32::MAX, "é\n", "61df6065cb2a759cbaeb670b928d808c");
        check("notes", "1", 1, "one", "32a170432ea4d1b861d4b69e37e23b3e");
        check("notes", "1", 1, "two", "27a652f716547056752094f47ae716b9");
    }

    fn document(native_id: &str, version: u32, text: &str) -> Document {
        Document {
            id: format!("notes:{native_id}"),
            version,
            source: "notes".into(),
            domain: Domain::Clinical,
            native_id: native_id.into(),
            licence: None,
            sensitivity: Sensitivity::Phi,
            title: Some("T".into()),
            text: text.into(),
            year: None,
            origin: Origin { object: "o".into(), byte_offset: 7 },
            meta: BTreeMap::new(),
        }
    }

    #[test]
    fn a_document_has_the_key_of_its_source_id_version_and_text() {
        let one = document("1", 1, "one");
        assert_eq!(one.key(), document_key("notes", "1", 1, "one"));
        for other in [document("1", 1, "two"), document("1", 2, "one"), document("2", 1, "one"), document("1", 11, "ne")] {
            assert_ne!(one.key(), other.key(), "{other:?}");
        }
        let mut elsewhere = document("1", 1, "one");
        (elsewhere.origin.byte_offset, elsewhere.title) = (99, None);
        assert_eq!(one.key(), elsewhere.key(), "where it stood does not matter");
    }

    fn conversation(turns: &[(Role, &str)]) -> Conversation {
        Conversation {
            id: "talk:t1".into(),
            source: "talk".into(),
            native_id: "t1".into(),
            task: None,
            turns: turns.iter().map(|(role, text)| Turn { role: *role, text: (*text).into() }).collect(),
            sensitivity: Sensitivity::Open,
            licence: None,
            origin: Origin { object: "o".into(), byte_offset: 0 },
        }
    }

    #[test]
    fn golden_conversation_keys() {
        let check = |turns: &[(Role, &str)], expected: &str| assert_eq!(hex(conversation(turns).key()), expected);
        let (system, user, assistant) = (Role::System, Role::User, Role::Assistant);
        check(&[(system, "Be brief."), (user, "Dry?"), (assistant, "Nø.")], "ad6c43b4ad20be18e149ffce8cc4cb09");
        check(&[(user, "Dry?"), (assistant, "No.")], "3e9a47cb1392bfa902340785c5d84981");
    }

    #[test]
    fn where_turns_end_and_who_speaks_are_part_of_the_key() {
        let of = |turns: &[(Role, &str)]| conversation(turns).key();
        let one = of(&[(Role::User, "ab"), (Role::Assistant, "c")]);
        assert_ne!(one, of(&[(Role::User, "a"), (Role::Assistant, "bc")]));
        assert_ne!(one, of(&[(Role::System, "ab"), (Role::Assistant, "c")]));
        assert_ne!(one, of(&[(Role::User, "ab"), (Role::Assistant, "c"), (Role::User, "d"), (Role::Assistant, "e")]));
    }
}
