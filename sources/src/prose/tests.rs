//! Paragraphs of small elements, by default and by each option.

use super::*;
use crate::options::Markers;
use crate::reader::Limits;
use crate::xml::Tree;

fn check(body: &str, expected: &[&str]) {
    check_with(&ReadOptions::default(), body, expected);
}

fn check_with(options: &ReadOptions, body: &str, expected: &[&str]) {
    let xml = format!("<body>{body}</body>");
    let tree = Tree::parse(&xml, &Limits::default()).unwrap();
    assert_eq!(Prose::of(tree.root(), options), expected, "{body}");
}

#[test]
fn white_space() {
    check("<p>a \n\t b</p>\n <p> c\u{a0}\u{2009}d </p><p> </p>", &["a b", "c d"]);
    check("<p>a<bold> b</bold> <italic>c </italic>d</p>", &["a b c d"]);
    check("<p>a<break/>b</p>", &["a b"]);
}

#[test]
fn paragraphs_around_blocks() {
    check("<p>a <list><list-item><p>x</p></list-item></list> b</p>", &["a", "- x", "b"]);
    check(
        "<p>a <fig><label>Figure 1</label><caption><title>T.</title><p>c</p></caption><graphic/></fig>b</p>",
        &["a", "Figure 1. T. c", "b"],
    );
    check("<disp-quote><p>q</p></disp-quote>x", &["q", "x"]);
}

#[test]
fn sections() {
    check("<sec><title>A</title><p>x</p></sec><sec><title>Gone</title><supplementary-material/></sec>", &["A", "x"]);
    check("<sec><label>2.</label><title>A</title><p>x</p></sec>", &["2. A", "x"]);
    check("<sec><title>A</title><sec><title>B</title></sec></sec>", &[]);
}

#[test]
fn lists_and_definitions() {
    check(
        "<list list-type='order'><list-item><p>x</p></list-item><list-item><p>y</p><p>z</p></list-item></list>",
        &["1. x\n2. y\n  z"],
    );
    check("<list><title>L</title><list-item><label>•</label><p>x</p></list-item><list-item/></list>", &["L", "• x"]);
    check("<list><list-item><p>x</p><list><list-item><p>y</p></list-item></list></list-item></list>", &["- x\n  - y"]);
    let deep =
        |depth: usize| format!("{}<code>a\nb</code>{}", "<list><list-item>".repeat(depth), "</list-item></list>".repeat(depth));
    check(&deep(2), &["- - a\n    b"]);
    check(&deep(6), &["- - - - a\n        b"]);
    check(
        "<def-list><def-item><term>t</term><def><p>d</p></def></def-item><def-item><term>u</term></def-item></def-list>",
        &["t: d\nu"],
    );
    let inner = "<def-list><title>I</title><def-item><term>v</term><def><p>e</p></def></def-item></def-list>";
    check(&format!("<def-list><def-item><term>t</term></def-item>{inner}</def-list>"), &["t", "I", "v: e"]);
}

#[test]
fn tables_leave_their_captions() {
    check(
        "<table-wrap><label>Table 1.</label><caption><p>c</p></caption><table><tr><td>9</td></tr></table>\
        <table-wrap-foot><fn><p>f</p></fn></table-wrap-foot></table-wrap>",
        &["Table 1. c"],
    );
    check("<table-wrap><label>Table 2</label><table/></table-wrap>", &[]);
    check("<boxed-text><label>Box 1</label><caption><title>B</title></caption><p>x</p></boxed-text>", &["Box 1. B", "x"]);
}

#[test]
fn formulas() {
    check(
        "<p>a <inline-formula><alternatives><tex-math>\\frac</tex-math><mml:math><mml:mi>x</mml:mi></mml:math>\
        <inline-graphic/></alternatives></inline-formula> b</p>",
        &["a x b"],
    );
    check("<p>a<disp-formula><label>(1)</label><tex-math>\\frac</tex-math></disp-formula>b</p>", &["a (1) b"]);
    check(
        "<p>a <inline-formula><alternatives><tex-math>\\frac</tex-math><textual-form>1/2</textual-form></alternatives></inline-formula></p>",
        &["a 1/2"],
    );
}

#[test]
fn citations_and_superscripts() {
    check("<p>seen [<xref ref-type='bibr'>1</xref>,<xref ref-type='bibr'>2</xref>].</p>", &["seen [1,2]."]);
    check("<p>seen<sup><xref ref-type='bibr'>1</xref>,<xref>2</xref></sup>.</p>", &["seen 1,2."]);
    check("<p>seen<xref ref-type='bibr'><sup>1</sup></xref> (<sup><xref>2</xref></sup>)</p>", &["seen 1 (2)"]);
    check("<p>R<sup>2 </sup>= 10<sup>−4</sup>, 4<sup>th</sup>, x<sub>1</sub></p>", &["R2 = 10^−4, 4th, x1"]);
}

#[test]
fn code_keeps_its_lines() {
    check("<p>run <monospace>a b</monospace> or <code>c  d</code></p>", &["run a b or c d"]);
    check("<code>\nif x:\n    y\n</code>", &["if x:\n    y"]);
}

#[test]
fn powers_stay_apart_from_what_they_raise() {
    check("<p>10<sup>4-5</sup>, b<sub>1</sub><sup>1/2</sup>, SO<sub>4</sub><sup>2-</sup></p>", &["10^4-5, b1^1/2, SO4^2-"]);
    check("<p>2<sup>-ΔΔCt</sup>, 2<sup><italic>n</italic></sup>, 0<sup>+</sup>, 1<sup>a</sup></p>", &["2^-ΔΔCt, 2^n, 0+, 1a"]);
    check("<p>F1<sub>100-23</sub>, H<sub>2</sub>O, P2<sub>1</sub>, 10 <sub>22</sub></p>", &["F1_100-23, H2O, P21, 10 22"]);
    check("<p>5 × 10<sup> 3 </sup>l and cm<sup>-1</sup></p>", &["5 × 10 3 l and cm-1"]);
}

#[test]
fn numbers_side_by_side_stay_two() {
    check("<p>10<sup>−</sup><sup>6</sup> M, 10<sup>-</sup><sup>5</sup>, 10<sup>.5</sup></p>", &["10^−6 M, 10^-5, 10^.5"]);
    check("<p>log<sub>10</sub>5, O<sub>40</sub>8H<sub>2</sub>O, 10<sup>6</sup>5</p>", &["log10 5, O40 8H2O, 10^6 5"]);
    check("<p>P2<sub>1</sub>2<sub>1</sub>2<sub>1</sub>, Na<sup>+</sup>2, 5<sup>+</sup> 6</p>", &["P212121, Na+2, 5+ 6"]);
    check("<p>in 2010.<sup>12</sup> Then, in 2011,<sup>1</sup></p>", &["in 2010. 12 Then, in 2011, 1"]);
    check("<p>in 2010<sup><italic><xref ref-type='bibr'>3</xref></italic></sup></p>", &["in 2010 3"]);
    check("<p>12<xref ref-type='bibr'>3</xref>, <xref>1</xref><xref>2</xref>, P<xref>1</xref></p>", &["12 3, 1 2, P1"]);
    check(
        "<p>10<math><msup><mrow/><mn>6</mn></msup></math>, 2<math><mfrac><mn>1</mn><mn>2</mn></mfrac></math></p>",
        &["10^6, 2 1/2"],
    );
    check("<p>10<math><msub><mi/><mn>2</mn></msub></math>, <math><mn>3</mn></math>4</p>", &["10_2, 3 4"]);
}

#[test]
fn figures_within_figures_and_names_of_supplements() {
    let inner = "<fig><label>B</label><caption><p>b</p></caption></fig>";
    check(&format!("<fig><label>A</label><caption><p>a</p></caption><p><graphic/>{inner}</p></fig>"), &["A. a", "B. b"]);
    check(&format!("<table-wrap><alternatives><table><tr><td>{inner}</td></tr></table></alternatives></table-wrap>"), &[]);
    check("<p>see <inline-supplementary-material>Table S1</inline-supplementary-material>.</p>", &["see Table S1."]);
}

#[test]
fn tables_by_option() {
    let table = "<table-wrap><label>Table 1</label><caption><p>c</p></caption><table><thead><tr><th>a</th><th>b</th></tr>\
        </thead><tr><td>1</td><td>2<sup>3</sup></td></tr></table><table-wrap-foot><fn><label>*</label><p>f</p></fn>\
        </table-wrap-foot></table-wrap>";
    let with = |tables, footnotes| ReadOptions { tables, footnotes, ..ReadOptions::default() };
    check_with(&with(Tables::Drop, true), table, &[]);
    check_with(&with(Tables::Caption, false), table, &["Table 1. c"]);
    check_with(&with(Tables::Linearize, false), table, &["Table 1. c", "a | b\n1 | 2^3"]);
    check_with(&with(Tables::Linearize, true), table, &["Table 1. c", "a | b\n1 | 2^3", "* f"]);
    check_with(&with(Tables::Linearize, false), "<table><tr><td>x</td></tr></table>", &["x"]);
}

#[test]
fn formulas_by_option() {
    let body = "<p>a <inline-formula><alternatives><tex-math>\\documentclass{x} \\begin{document}$x_1$\\end{document}</tex-math>\
        <mml:math><mml:mi>x</mml:mi></mml:math></alternatives></inline-formula> b <math><mi>y</mi></math></p>";
    let with = |formulas| ReadOptions { formulas, ..ReadOptions::default() };
    check_with(&with(Formulas::Readable), body, &["a x b y"]);
    check_with(&with(Formulas::Tex), body, &["a $x_1$ b y"]);
    check_with(&with(Formulas::Drop), body, &["a b"]);
    check_with(&with(Formulas::Tex), "<p><tex-math>\\begin{document} }{}$y$\\end{document}</tex-math></p>", &["$y$"]);
}

#[test]
fn markers_by_option() {
    let body = "<p>as [<xref ref-type='bibr'>1</xref>,<xref ref-type='bibr'>2</xref>] say<sup><xref ref-type='bibr'>3</xref></sup>, \
        see <xref ref-type='fig'>Fig. 1</xref> (<xref ref-type='table'>Table 1</xref>).</p>";
    let with = |citations, cross_references| ReadOptions { citations, cross_references, ..ReadOptions::default() };
    check_with(&with(Markers::Keep, Markers::Keep), body, &["as [1,2] say 3, see Fig. 1 (Table 1)."]);
    check_with(&with(Markers::Drop, Markers::Keep), body, &["as say, see Fig. 1 (Table 1)."]);
    check_with(&with(Markers::Keep, Markers::Drop), body, &["as [1,2] say 3, see."]);
}

#[test]
fn footnotes_by_option() {
    let body = "<p>a<xref ref-type='fn'>*</xref><fn><label>*</label><p>note</p></fn> b</p><p>c</p>";
    check(body, &["a* b", "c"]);
    check_with(&ReadOptions { footnotes: true, ..ReadOptions::default() }, body, &["a* b", "* note", "c"]);
}
