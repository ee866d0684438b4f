//! The model card beside weights: a `README.md` whose front matter says how sensitive the data were that the weights learned from.
//!
//! Weights inherit the highest level of everything that they were made of, also when they are copied, converted or merged.

use mellama_sources::Sensitivity;

/// Name of the card.
pub(crate) const CARD: &str = "README.md";
/// Largest card that is read.
pub(crate) const CARD_LIMIT_BYTES: u64 = 1 << 20;

/// The card of weights made by `made` (one sentence) out of what is named.
pub(crate) fn write(title: &str, made: &str, sensitivity: Sensitivity) -> Vec<u8> {
    let release = match sensitivity {
        Sensitivity::Open => {
            "The data that it is known to be made from are open. What the licence of the original weights asks holds here too."
        }
        Sensitivity::Dua => {
            "It was made from data under a data use agreement and inherits it: whoever is given these weights needs the same \
             agreement."
        }
        Sensitivity::Phi => {
            "It was made from data with identifying health information. It may not leave the place where those data may be."
        }
    };
    format!(
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\nsensitivity: {sensitivity}\n---\n\n# {title}\n\n{made}\n\n{release}\n"
    )
    .into_bytes()
}

/// The level that a card's front matter names; none where it names none.
pub(crate) fn sensitivity(card: &[u8]) -> Option<Sensitivity> {
    let text = std::str::from_utf8(card).ok()?;
    let mut lines = text.lines();
    (lines.next()?.trim_end() == "---").then_some(())?;
    let mut front = lines.take_while(|line| line.trim_end() != "---");
    let named = front.find_map(|line| line.strip_prefix("sensitivity:"))?;
    // A level that nobody knows is the highest.
    Some(Sensitivity::from_name(named.trim()).unwrap_or(Sensitivity::Phi))
}

#[cfg(test)]
mod tests {
    use mellama_sources::Sensitivity;

    use super::{sensitivity, write};

    #[test]
    fn the_level_written_is_read_back() {
        for level in [Sensitivity::Open, Sensitivity::Dua, Sensitivity::Phi] {
            assert_eq!(sensitivity(&write("A model", "Made by a test.", level)), Some(level));
        }
    }

    #[test]
    fn cards_of_others_name_none_and_unknown_levels_are_the_highest() {
        let check = |card: &str, expected: Option<Sensitivity>| assert_eq!(sensitivity(card.as_bytes()), expected, "{card}");
        check("# A model\n\nsensitivity: dua\n", None);
        check("---\nlicense: mit\n---\nsensitivity: dua\n", None);
        check("---\nsensitivity: secret\n---\n", Some(Sensitivity::Phi));
        check("---\r\nsensitivity: dua\r\n---\r\n", Some(Sensitivity::Dua));
        check("", None);
    }
}
