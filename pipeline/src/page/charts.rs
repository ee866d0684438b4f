//! Inline SVG charts. Coordinates are rounded, so that equal data are equal bytes.

use maud::{Markup, html};

/// Width and height of a curve's drawing, in user units.
const CURVE: (f64, f64) = (760.0, 220.0);
/// Room for the axis labels.
const MARGIN: (f64, f64) = (52.0, 24.0);
/// Room for the names of several curves.
const NAMES: f64 = 84.0;
/// Distance of two names.
const LINE_HEIGHT: f64 = 14.0;
/// Most points of a curve; more are thinned evenly.
const MAX_POINTS: usize = 400;

/// One curve: what it is and its points (x, y), ascending in x.
pub(super) struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Dashes that tell curves apart without colour; the first one is drawn through.
const DASHES: [&str; 4] = ["none", "7 4", "2 3", "9 3 2 3"];

/// Curves over steps with the range of y at their side, each with its name where it ends when there are several; nothing when none
/// has two points.
pub(super) fn curves(series: &[Series], label: &str) -> Markup {
    let series: Vec<(&str, Vec<(f64, f64)>)> =
        series.iter().filter(|one| one.points.len() > 1).map(|one| (one.name.as_str(), thinned(&one.points))).collect();
    if series.is_empty() {
        return html! {};
    }
    let all = || series.iter().flat_map(|(_, points)| points.iter().copied());
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (low, high) = range(&mut all().map(|point| point.1));
    let (first, last) = range(&mut all().map(|point| point.0));
    let names = if series.len() > 1 { NAMES } else { 8.0 };
    let x = |v: f64| MARGIN.0 + (v - first) / (last - first).max(1e-12) * (CURVE.0 - MARGIN.0 - names);
    let y = |v: f64| 8.0 + (high - v) / (high - low).max(1e-12) * (CURVE.1 - MARGIN.1 - 16.0);
    let path =
        |points: &[(f64, f64)]| points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect::<Vec<_>>().join(" ");
    let bottom = CURVE.1 - MARGIN.1;
    let ends: Vec<f64> = series.iter().filter_map(|(_, points)| points.last().map(|point| y(point.1))).collect();
    let places = apart(&ends, bottom);
    html! {
        svg viewBox=(format!("0 0 {} {}", CURVE.0, CURVE.1)) role="img" aria-label=(label) {
            line.axis x1=(MARGIN.0) y1="4" x2=(MARGIN.0) y2=(bottom) {}
            line.axis x1=(MARGIN.0) y1=(bottom) x2=(CURVE.0) y2=(bottom) {}
            text x="4" y="16" { (format!("{high:.3}")) }
            text x="4" y=(bottom) { (format!("{low:.3}")) }
            text x=(MARGIN.0) y=(CURVE.1 - 6.0) { "step " (first as u64) }
            text x=(format!("{:.1}", x(last))) y=(CURVE.1 - 6.0) text-anchor="end" { "step " (last as u64) }
            @for (index, (name, points)) in series.iter().enumerate() {
                polyline.curve points=(path(points)) stroke-dasharray=(DASHES[index % DASHES.len()]) {}
                @if series.len() > 1 { text x=(format!("{:.1}", x(last) + 6.0)) y=(format!("{:.1}", places[index] + 4.0)) { (name) } }
            }
        }
    }
}

/// Evenly thinned points, the last one among them.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(MAX_POINTS);
    let kept = points.iter().copied().step_by(step);
    let last = points.last().copied().filter(|_| !(points.len() - 1).is_multiple_of(step));
    kept.chain(last).collect()
}

/// Heights near the wanted ones, at least a line of text apart.
fn apart(wanted: &[f64], bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut places = vec![0.0; wanted.len()];
    let mut next = f64::NEG_INFINITY;
    for &index in &order {
        places[index] = wanted[index].max(next);
        next = places[index] + LINE_HEIGHT;
    }
    // What went over the edge pushes the others back up.
    let mut limit = bottom;
    for &index in order.iter().rev() {
        places[index] = places[index].min(limit);
        limit = places[index] - LINE_HEIGHT;
    }
    places
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

#[cfg(test)]
mod tests {
    use super::{Series, apart, curves, thinned};

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.to_owned(), points: points.to_vec() }
    }

    #[test]
    fn curves_share_their_axes_and_are_named_where_they_end() {
        let two = [series("biomedical", &[(0.0, 4.0), (10.0, 2.0)]), series("clinical", &[(0.0, 3.0), (10.0, 2.0)])];
        let page = curves(&two, "held-out loss by step").into_string();
        for part in ["4.000", "2.000", "step 0", "step 10", ">biomedical</text>", ">clinical</text>", "7 4"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let one = curves(&two[..1], "loss").into_string();
        assert!(!one.contains("biomedical"), "one curve needs no name: {one}");
        assert!(curves(&[series("a", &[(0.0, 1.0)])], "loss").into_string().is_empty());
    }

    #[test]
    fn names_never_overlap() {
        let places = apart(&[100.0, 100.0, 195.0, 196.0], 196.0);
        assert_eq!(places, [100.0, 114.0, 182.0, 196.0]);
    }

    #[test]
    fn thinning_keeps_the_ends() {
        let points: Vec<(f64, f64)> = (0..1000).map(|step| (f64::from(step), 1.0)).collect();
        let kept = thinned(&points);
        assert_eq!((kept[0].0, kept[kept.len() - 1].0), (0.0, 999.0));
        assert!(kept.len() < 402 && kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
