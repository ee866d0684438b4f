//! Which tensors go into which file, and what the files are called.

use std::ops::Range;

/// Size above which tensors are cut into several files.
pub const FILE_LIMIT_BYTES: u64 = 5_000_000_000;

/// Cuts tensors of these sizes, in order, into files of at most `limit_bytes` each; a single tensor may be larger.
pub fn cut(sizes: impl IntoIterator<Item = u64>, limit_bytes: u64) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut first, mut end, mut bytes) = (0, 0, 0_u64);
    for (index, size) in sizes.into_iter().enumerate() {
        if index > first && bytes.saturating_add(size) > limit_bytes {
            parts.push(first..index);
            (first, bytes) = (index, 0);
        }
        bytes += size;
        end = index + 1;
    }
    parts.push(first..end);
    parts
}

/// The name of the file at `index` of `count`: `model.safetensors`, or `model-00001-of-00002.safetensors`.
pub fn file_name(stem: &str, index: usize, count: usize) -> String {
    if count == 1 { format!("{stem}.safetensors") } else { format!("{stem}-{:05}-of-{count:05}.safetensors", index + 1) }
}

/// The folder of a rank's files inside a checkpoint: none where there is one rank.
pub(super) fn rank_folder(rank: usize, ranks: usize) -> String {
    if ranks == 1 { String::new() } else { format!("rank-{rank:05}/") }
}

/// Whether a file of a checkpoint, named from its folder, holds tensors of this stem: alone, as one of several, of any rank.
pub(super) fn is_of(file: &str, stem: &str) -> bool {
    let digits = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match file.split_once('/') {
        Some((folder, name)) if folder.strip_prefix("rank-").is_some_and(digits) => name,
        Some(_) => return false,
        None => file,
    };
    let Some(rest) = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(".safetensors")) else { return false };
    let numbered = rest.strip_prefix('-').and_then(|rest| rest.split_once("-of-"));
    rest.is_empty() || numbered.is_some_and(|(index, count)| digits(index) && digits(count))
}

#[cfg(test)]
mod tests {
    use super::{cut, file_name, is_of, rank_folder};

    #[test]
    fn files_stay_under_the_limit_and_hold_every_tensor_once() {
        let check = |limit: u64, expected: &[std::ops::Range<usize>]| {
            assert_eq!(cut([3, 4, 5, 1, 9], limit), expected, "{limit}");
        };
        check(22, &[std::ops::Range { start: 0, end: 5 }]);
        check(7, &[0..2, 2..4, 4..5]); // the last one stands alone, above the limit
        check(1, &[0..1, 1..2, 2..3, 3..4, 4..5]);
        assert_eq!(cut([], 1), [std::ops::Range { start: 0, end: 0 }]);
    }

    #[test]
    fn files_of_a_stem_are_told_from_others() {
        for (rank, ranks, index, count) in [(0, 1, 0, 1), (0, 1, 2, 3), (7, 160, 0, 1), (7, 160, 1, 2)] {
            let file = format!("{}{}", rank_folder(rank, ranks), file_name("model", index, count));
            assert!(is_of(&file, "model"), "{file}");
            assert!(!is_of(&file, "optimizer"), "{file}");
        }
        for file in
            ["merged/model.safetensors", "model.safetensors.index.json", "model-x.safetensors", "rank-1/model.safetensors"]
        {
            assert!(!is_of(file, "model"), "{file}");
        }
        assert!(!is_of("adapter_model.safetensors", "model"));
    }
}
