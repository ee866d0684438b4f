//! `MathML` as one line of readable text: `x_i^2`, `(a + b)/c`, `√(x)`.
//!
//! It writes for a reader, not for a parser: layout, fonts and annotations are dropped, and no TeX is produced.

use crate::names::Name;
use crate::xml::{Element, Node};

/// Operators set between spaces when they stand between two operands.
const SPACED: [&str; 29] = [
    "=", "≠", "<", ">", "≤", "≥", "⩽", "⩾", "≪", "≫", "≈", "≅", "≡", "∼", "~", "≃", "∝", "→", "←", "↔", "⇒", "⇔", "∈", "±", "×",
    "+", "-", "−", "–",
];
/// Marks over a letter and the combining characters that take their place.
const ACCENTS: [(&str, char); 13] = [
    ("¯", '\u{304}'),
    ("‾", '\u{304}'),
    ("_", '\u{304}'),
    ("―", '\u{304}'),
    ("^", '\u{302}'),
    ("ˆ", '\u{302}'),
    ("~", '\u{303}'),
    ("˜", '\u{303}'),
    ("→", '\u{20d7}'),
    ("⃗", '\u{20d7}'),
    ("˙", '\u{307}'),
    (".", '\u{307}'),
    ("¨", '\u{308}'),
];

/// The text of a `math` element or a part of one.
pub(crate) fn render(element: Element<'_>) -> String {
    let mut text = String::new();
    row(element, &mut text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The sign of a script on nothing, where the whole formula is one: it stands on what is before the formula.
pub(crate) fn lone_script(mut element: Element<'_>) -> Option<&'static str> {
    loop {
        let mut parts = element.elements();
        let (first, second) = (parts.next()?, parts.next());
        match element.name() {
            Name::Msup if one(first).is_empty() => return Some("^"),
            Name::Msub if one(first).is_empty() => return Some("_"),
            Name::Semantics => {}
            _ if second.is_some() => return None,
            _ => {}
        }
        element = first;
    }
}

/// Children side by side.
fn row(element: Element<'_>, out: &mut String) {
    let mut first = true;
    let mut before: Option<Element<'_>> = None;
    for node in element.children() {
        let begin = out.len();
        match node {
            Node::Text(text) => out.push_str(text.trim()),
            Node::Element(child) if child.name() == Name::Mo => operator(child, first, out),
            Node::Element(child) => part(child, out),
        }
        if let Node::Element(child) = node {
            let (left, right) = out.split_at(begin);
            let both = |kind: fn(char) -> bool| left.ends_with(kind) && right.starts_with(kind);
            let behind_script = both(char::is_alphanumeric) && before.is_some_and(ends_in_script);
            // `2` and one half are not `21/2`; digits in elements of their own may be one number.
            let beside_layout = both(|one| one.is_ascii_digit())
                && (is_layout(child, |parts| parts.first().copied())
                    || before.is_some_and(|before| is_layout(before, |parts| parts.last().copied())));
            if behind_script || beside_layout {
                out.insert(begin, ' ');
            }
            before = Some(child);
        }
        first = first && matches!(node, Node::Text(text) if text.trim().is_empty());
    }
}

/// Whether a script ends an element: what follows would be read as a part of it.
fn ends_in_script(element: Element<'_>) -> bool {
    let scripts = matches!(
        element.name(),
        Name::Msub | Name::Msup | Name::Msubsup | Name::Munder | Name::Munderover | Name::Mover | Name::Mmultiscripts
    );
    // A script on nothing belongs to what follows.
    let based = || element.elements().next().is_some_and(Element::has_text);
    (scripts && based()) || (element.name() == Name::Mrow && element.elements().last().is_some_and(ends_in_script))
}

/// Whether what stands at this end of an element is more than a token.
fn is_layout<'t>(mut element: Element<'t>, pick: fn(Vec<Element<'t>>) -> Option<Element<'t>>) -> bool {
    loop {
        let scripts = matches!(
            element.name(),
            Name::Mfrac
                | Name::Msub
                | Name::Msup
                | Name::Msubsup
                | Name::Munder
                | Name::Munderover
                | Name::Mover
                | Name::Mmultiscripts
        );
        if scripts {
            return true;
        }
        match pick(element.elements().collect()) {
            Some(inner) => element = inner,
            None => return false,
        }
    }
}

fn operator(element: Element<'_>, first: bool, out: &mut String) {
    let text = one(element);
    // Function application, invisible times, separator and plus.
    if matches!(text.as_str(), "\u{2061}" | "\u{2062}" | "\u{2063}" | "\u{2064}") {
        return;
    }
    let spaced = !first && SPACED.contains(&text.as_str());
    if spaced {
        out.push(' ');
    }
    out.push_str(&text);
    if spaced || text == "," || text == ";" {
        out.push(' ');
    }
}

fn part(element: Element<'_>, out: &mut String) {
    let parts: Vec<_> = element.elements().collect();
    match (element.name(), parts.as_slice()) {
        (Name::Mi | Name::Mn | Name::Ms | Name::Mtext | Name::Mo, _) => text(element, out),
        (Name::Mspace | Name::Sep, _) => out.push(' '),
        (Name::Annotation | Name::AnnotationXml | Name::NoScript | Name::Mprescripts | Name::Mphantom | Name::Maligngroup, _) => {
        }
        (Name::Semantics, [first, ..]) => part(*first, out),
        (Name::Mfrac, [over, under]) => out.extend([&grouped(*over), "/", &grouped(*under)]),
        (Name::Msqrt, _) => {
            out.push_str("√(");
            row(element, out);
            out.truncate(out.trim_end().len());
            out.push(')');
        }
        (Name::Mroot, [base, index]) => out.extend(["(", &one(*base), ")^(1/", &one(*index), ")"]),
        (Name::Msup, [base, upper]) => scripts(&one(*base), None, Some(*upper), out),
        (Name::Msub | Name::Munder, [base, lower]) => scripts(&one(*base), Some(*lower), None, out),
        (Name::Msubsup | Name::Munderover, [base, lower, upper]) => {
            scripts(&one(*base), Some(*lower), Some(*upper), out);
        }
        (Name::Mover, [base, upper]) => accented(*base, *upper, out),
        (Name::Mmultiscripts, [base, rest @ ..]) => multiscripts(*base, rest, out),
        (Name::Mfenced, _) => fenced(element, &parts, out),
        (Name::Mtable, _) => *out += &joined(&parts, "; "),
        (Name::Mtr | Name::Mlabeledtr, _) => *out += &joined(&parts, " "),
        _ => row(element, out),
    }
}

/// One element on its own.
fn one(element: Element<'_>) -> String {
    let mut text = String::new();
    part(element, &mut text);
    text.trim().to_string()
}

/// Words of a `mtext` keep the space at their ends, symbols have none.
fn text(element: Element<'_>, out: &mut String) {
    let raw = element.raw_text();
    if element.name() == Name::Mtext {
        out.push_str(&raw);
    } else {
        out.push_str(raw.trim());
    }
}

/// In parentheses unless it is a single symbol, a signed number or already fenced.
fn grouped(element: Element<'_>) -> String {
    let text = one(element);
    let unsigned = text.trim_start_matches(['+', '-', '−', '–']);
    let number = unsigned.chars().all(|one| one.is_ascii_digit() || one == '.');
    let word = unsigned.chars().all(|one| one.is_alphanumeric() || matches!(one, '.' | '_' | '\u{300}'..='\u{36f}'));
    let fenced = text.starts_with('(') && text.find(')') == Some(text.len() - 1);
    if number || fenced || (word && is_single(element)) { text } else { format!("({text})") }
}

/// Whether it holds one symbol only, however many rows are around it.
fn is_single(mut element: Element<'_>) -> bool {
    loop {
        let mut parts = element.elements();
        match (parts.next(), parts.next()) {
            (None, _) => return true,
            (Some(only), None) => element = only,
            // A symbol with an index is one symbol.
            (Some(_), Some(_)) => return matches!(element.name(), Name::Msub | Name::Mover | Name::Munder),
        }
    }
}

fn scripts(base: &str, lower: Option<Element<'_>>, upper: Option<Element<'_>>, out: &mut String) {
    out.push_str(base);
    for (sign, script) in [('_', lower), ('^', upper)] {
        let Some(script) = script else { continue };
        let text = grouped(script);
        let prime = text.chars().all(|one| matches!(one, '′' | '″' | '\'' | '*' | '∗' | '(' | ')'));
        if text.is_empty() {
            continue;
        }
        if prime {
            out.push_str(text.trim_matches(['(', ')']));
        } else {
            // A script on nothing is a prefix, as the mass number in ¹³C.
            if !base.is_empty() || out.ends_with(|last: char| last.is_ascii_digit()) {
                out.push(sign);
            }
            out.push_str(&text);
        }
    }
}

fn accented(base: Element<'_>, upper: Element<'_>, out: &mut String) {
    let (letter, mark) = (one(base), one(upper));
    let combining = ACCENTS.iter().find(|(accent, _)| *accent == mark);
    match combining {
        Some((_, combining)) if letter.chars().count() == 1 => {
            out.push_str(&letter);
            out.push(*combining);
        }
        // A bar over a longer expression is dropped rather than written behind it.
        Some(_) => out.push_str(&letter),
        None => scripts(&letter, None, Some(upper), out),
    }
}

fn multiscripts(base: Element<'_>, rest: &[Element<'_>], out: &mut String) {
    let split = rest.iter().position(|part| part.name() == Name::Mprescripts).unwrap_or(rest.len());
    for pair in rest[split..].get(1..).unwrap_or_default().chunks(2) {
        let scripts: Vec<_> = pair.iter().map(|script| one(*script)).collect();
        match scripts.as_slice() {
            [lower, upper] if !lower.is_empty() && !upper.is_empty() => out.extend(["_", lower, "^", upper]),
            _ => out.extend(scripts),
        }
    }
    let present = |part: Option<&Element<'_>>| part.is_some_and(|part| part.name() != Name::NoScript);
    let mut text = one(base);
    for pair in rest[..split].chunks(2) {
        let lower = pair.first().filter(|&part| present(Some(part))).copied();
        let upper = pair.get(1).filter(|&part| present(Some(part))).copied();
        let before = std::mem::take(&mut text);
        scripts(&before, lower, upper, &mut text);
    }
    out.push_str(&text);
}

fn fenced(element: Element<'_>, parts: &[Element<'_>], out: &mut String) {
    out.push_str(&element.attribute("open").unwrap_or("(".into()));
    let separators = element.attribute("separators").unwrap_or(",".into());
    let separators: Vec<char> = separators.chars().filter(|one| !one.is_whitespace()).collect();
    for (index, part) in parts.iter().enumerate() {
        if index > 0
            && let Some(separator) = separators.get(index - 1).or(separators.last())
        {
            out.push(*separator);
            out.push(' ');
        }
        out.push_str(&one(*part));
    }
    out.push_str(&element.attribute("close").unwrap_or(")".into()));
}

fn joined(parts: &[Element<'_>], between: &str) -> String {
    let texts: Vec<_> = parts.iter().map(|part| one(*part)).filter(|text| !text.is_empty()).collect();
    texts.join(between)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Limits;
    use crate::xml::Tree;

    fn check(inside: &str, expected: &str) {
        let xml = format!("<mml:math>{inside}</mml:math>").replace("<m", "<mml:m").replace("</m", "</mml:m");
        let xml = xml.replace("mml:mml:", "mml:");
        let tree = Tree::parse(&xml, &Limits::default()).unwrap();
        assert_eq!(render(tree.root()), expected, "{inside}");
    }

    #[test]
    fn rows_and_operators() {
        check("<mi>p</mi><mo>&lt;</mo><mn>0.05</mn>", "p < 0.05");
        check("<mo>-</mo><mn>1</mn>", "-1");
        check("<mrow> <mi>f</mi> <mo>\u{2061}</mo> <mo>(</mo><mi>x</mi><mo>,</mo><mi>y</mi><mo>)</mo></mrow>", "f(x, y)");
        check("<mtext>if </mtext><mi>x</mi>", "if x");
    }

    #[test]
    fn scripts_and_fractions() {
        check("<msup><mi>x</mi><mn>2</mn></msup>", "x^2");
        check("<msup><mi>e</mi><mrow><mn>3</mn><mi>t</mi></mrow></msup>", "e^(3t)");
        check("<msup><mn>10</mn><mrow><mo>-</mo><mn>3</mn></mrow></msup>", "10^-3");
        check("<msup><mi>a</mi><mrow><mi>b</mi></mrow></msup>", "a^b");
        check("<msub><mi>x</mi><mrow><mi>i</mi><mo>+</mo><mn>1</mn></mrow></msub>", "x_(i + 1)");
        check("<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>", "x_i^2");
        check("<msup><mi>f</mi><mo>′</mo></msup>", "f′");
        check("<msup><mrow/><mn>13</mn></msup><mi>C</mi>", "13C");
        check("<mn>10</mn><msup><mrow/><mn>6</mn></msup>", "10^6");
        check("<msubsup><mrow/><mn>6</mn><mn>13</mn></msubsup><mi>C</mi>", "6^13C");
        check("<mn>2</mn><mfrac><mn>1</mn><mn>2</mn></mfrac>", "2 1/2");
        check("<mn>3</mn><mrow><msup><mn>10</mn><mn>6</mn></msup></mrow><mn>5</mn>", "3 10^6 5");
        check("<mn>1</mn><mn>0</mn><mrow><mn>0</mn></mrow>", "100");
        check("<mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mi>c</mi></mfrac>", "(a + b)/c");
        check("<msqrt><mi>a</mi><mo>+</mo><mi>b</mi></msqrt>", "√(a + b)");
        check("<munderover><mo>∑</mo><mi>i</mi><mi>n</mi></munderover><msub><mi>x</mi><mi>i</mi></msub>", "∑_i^n x_i");
        check("<mrow><msup><mi>x</mi><mn>2</mn></msup></mrow><mi>y</mi><mi>z</mi><mo>(</mo><mi>w</mi><mo>)</mo>", "x^2 yz(w)");
        check("<mroot><mi>a</mi><mn>3</mn></mroot>", "(a)^(1/3)");
    }

    #[test]
    fn accents_fences_tables_and_annotations() {
        check("<mover><mi>x</mi><mo>¯</mo></mover>", "x\u{304}");
        check("<mover><mi>xy</mi><mo>¯</mo></mover>", "xy");
        check("<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover>", "∑_(i = 1)^n");
        check("<mfenced><mi>a</mi><mi>b</mi></mfenced>", "(a, b)");
        check("<mfenced open='[' close=']' separators='|'><mi>a</mi><mi>b</mi></mfenced>", "[a| b]");
        let nested = (0..60).fold("<mi>a</mi>".to_string(), |base, _| {
            format!("<mrow><msup><mrow>{base}</mrow><mn>2</mn></msup><mi>b</mi></mrow>")
        });
        check(&nested, &format!("a{}", "^2 b".repeat(60)));
        check("<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr><mtr><mtd><mn>3</mn></mtd></mtr></mtable>", "1 2; 3");
        check("<semantics><mi>x</mi><annotation>TeX</annotation></semantics>", "x");
        check("<mmultiscripts><mi>C</mi><mn>6</mn><none/><mprescripts/><none/><mn>13</mn></mmultiscripts>", "13C_6");
        check("<mmultiscripts><mi>C</mi><mprescripts/><mn>6</mn><mn>13</mn></mmultiscripts>", "_6^13C");
        check("", "");
    }
}
