//! Inline SVG charts. Coordinates are rounded, so that equal data are equal bytes.

use maud::{Markup, html};

/// Width and height of a curve's drawing, in user units.
const CURVE: (f64, f64) = (760.0, 220.0);
/// Room for the axis labels.
const MARGIN: (f64, f64) = (52.0, 24.0);
/// Most points of a curve; more are thinned evenly.
const MAX_POINTS: usize = 400;

/// A curve of (x, y) points with the range of y at its side; nothing when there are fewer than two.
pub(super) fn curve(points: &[(f64, f64)], label: &str) -> Markup {
    if points.len() < 2 {
        return html! {};
    }
    let step = points.len().div_ceil(MAX_POINTS);
    let thinned: Vec<(f64, f64)> = points.iter().copied().step_by(step).chain(points.last().copied()).collect();
    let ys = thinned.iter().map(|p| p.1);
    let (low, high) = (ys.clone().fold(f64::INFINITY, f64::min), ys.fold(f64::NEG_INFINITY, f64::max));
    let (first, last) = (points[0].0, points[points.len() - 1].0);
    let x = |v: f64| MARGIN.0 + (v - first) / (last - first).max(1e-12) * (CURVE.0 - MARGIN.0 - 8.0);
    let y = |v: f64| 8.0 + (high - v) / (high - low).max(1e-12) * (CURVE.1 - MARGIN.1 - 16.0);
    let path: Vec<String> = thinned.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
    let bottom = CURVE.1 - MARGIN.1;
    html! {
        svg viewBox=(format!("0 0 {} {}", CURVE.0, CURVE.1)) role="img" aria-label=(label) {
            line.axis x1=(MARGIN.0) y1="4" x2=(MARGIN.0) y2=(bottom) {}
            line.axis x1=(MARGIN.0) y1=(bottom) x2=(CURVE.0) y2=(bottom) {}
            text x="4" y="16" { (format!("{high:.3}")) }
            text x="4" y=(bottom) { (format!("{low:.3}")) }
            text x=(MARGIN.0) y=(CURVE.1 - 6.0) { "step " (first as u64) }
            text x=(CURVE.0 - 70.0) y=(CURVE.1 - 6.0) { "step " (last as u64) }
            polyline.curve points=(path.join(" ")) {}
        }
    }
}

/// One horizontal bar of `share` (0 to 1), with a second part after it.
pub(super) fn bar(share: f64, second: f64) -> Markup {
    let width = |share: f64| format!("{:.1}", share.clamp(0.0, 1.0) * 160.0);
    html! {
        svg viewBox="0 0 160 12" width="160" height="12" aria-hidden="true" {
            rect.bar x="0" y="1" width=(width(share)) height="10" {}
            rect.bar2 x=(width(share)) y="1" width=(width(second)) height="10" {}
        }
    }
}
