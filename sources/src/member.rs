//! Members of archives: what came next in one, and which entries are refused.
//!
//! It reads no archive; [`crate::tar`] and [`crate::zip`] do. Nothing is ever written to a path of an archive: entries are
//! refused because an archive that holds them is not what it should be.

use crate::reject::RejectReason;

/// A file or directory of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its path, with `?` for what is not UTF-8.
    pub(crate) name: String,
    pub(crate) is_directory: bool,
    /// Where its content begins, or for zip its local header.
    pub(crate) offset: u64,
    /// Bytes of its content, decompressed, as the archive states them.
    pub(crate) size: u64,
}

impl Member {
    /// Whether nothing in it, its end included, is at this offset or behind.
    pub(crate) fn ends_before(&self, offset: u64) -> bool {
        self.offset.saturating_add(self.size) < offset
    }
}

/// What came next in an archive. Offsets of a tar are those of its decompressed stream, of a zip those of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A member that can be read.
    Member(Member),
    /// An entry that is refused; the archive goes on.
    Refused { offset: u64, bytes: u64, reason: RejectReason },
    /// The archive is damaged. Nothing comes after it.
    Fault { offset: u64, reason: RejectReason },
    /// The end.
    End,
}

/// Why a name cannot be that of a member, if so. The reason never holds the name.
pub(crate) fn refusal_of_name(name: &[u8], limit: usize) -> Option<RejectReason> {
    if name.len() > limit {
        return Some(RejectReason::over_limit("member_name_bytes", limit as u64));
    }
    let mut parts = name.split(|byte| matches!(byte, b'/' | b'\\'));
    let what = if name.is_empty() {
        "no name"
    } else if name.contains(&0) {
        "a NUL in its name"
    } else if matches!(name, [b'/' | b'\\', ..] | [_, b':', ..]) {
        "an absolute path"
    } else if parts.any(|part| part == b"..") {
        "a path with .."
    } else {
        return None;
    };
    Some(RejectReason::UnsafeMember { what: what.to_owned() })
}

/// The reason of a damaged archive; `what` is a phrase of ours.
pub(crate) fn malformed(what: &'static str) -> RejectReason {
    RejectReason::MalformedArchive { what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<&str>) {
        let found = refusal_of_name(name.as_bytes(), 20).map(|reason| reason.to_string());
        assert_eq!(found.as_deref(), expected, "{name}");
    }

    #[test]
    fn case_30_names_that_lead_elsewhere_are_refused() {
        check("a/b.xml", None);
        check("./a..b/..c/d..", None);
        check("..", Some("unsafe-member: a path with .."));
        check("a/../b", Some("unsafe-member: a path with .."));
        check("a\\..\\b", Some("unsafe-member: a path with .."));
        check("/etc/passwd", Some("unsafe-member: an absolute path"));
        check("\\\\host\\x", Some("unsafe-member: an absolute path"));
        check("C:\\x", Some("unsafe-member: an absolute path"));
        check("a\0b", Some("unsafe-member: a NUL in its name"));
        check("", Some("unsafe-member: no name"));
        check("123456789012345678901", Some("over-limit: member_name_bytes = 20"));
    }
}
