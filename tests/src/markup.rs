//! Text as XML: escapes, and inline elements and references as publishers use them, the same for the same text.

/// Escapes `&`, `<` and `>`.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Escaped text in which gene names are in italics, `µ` is a numeric reference and some percentages are bold. A reader
/// that takes the text out of it gets `text` back.
pub fn inline(text: &str, italic: &str, bold: &str) -> String {
    let mut out = String::new();
    for (number, word) in text.split(' ').enumerate() {
        if number > 0 {
            out.push(' ');
        }
        let bare = word.trim_end_matches(['.', ',']);
        let is_gene = bare.len() == 4
            && bare.ends_with(|c: char| c.is_ascii_digit())
            && bare[..3].bytes().all(|byte| byte.is_ascii_uppercase());
        let escaped = escape(bare).replace('µ', "&#xB5;");
        let tail = &word[bare.len()..];
        if is_gene {
            out.push_str(&format!("<{italic}>{escaped}</{italic}>{tail}"));
        } else if bare.ends_with("mg") || (bare.contains('.') && bare.len() == 3) {
            out.push_str(&format!("<{bold}>{escaped}</{bold}>{tail}"));
        } else {
            out.push_str(&escaped);
            out.push_str(tail);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn genes_are_italic_and_special_characters_escaped() {
        let written = inline("The gene is QZF3, p < 0.02 at 3.5 µg.", "i", "b");
        assert_eq!(written, "The gene is <i>QZF3</i>, p &lt; 0.02 at <b>3.5</b> &#xB5;g.");
    }
}
