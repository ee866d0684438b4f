//! The section on retractions: what was taken out of the shards, what is in them now, and which models were trained before. It has
//! marks of its own, so that a later retraction can write it again.

use maud::{Markup, html};

use super::sections::count;
use crate::figures::{Figures, PartFigures};
use crate::trained::{self, TrainedBefore};
use crate::wording::counted;

/// Begins the section.
const BEGIN: &str = "<section id=\"retractions\">";
/// Ends it; no section stands inside.
const END: &str = "</section>";

/// The section; without retractions and models of other shards it is empty.
pub(super) fn section(figures: &Figures, models: &[TrainedBefore]) -> Markup {
    html! {
        section id="retractions" {
            @if !figures.retractions.is_empty() { (changes(figures)) }
            @if !models.is_empty() {
                h2 { "Models of other shards" }
                @for model in models { p { (model.text()) } }
                p.soft { (trained::REMEDY) "." }
            }
        }
    }
}

/// The page with this section in the place of its own; a page that has none gets it at its end.
pub(crate) fn with_retractions(html: &str, figures: &Figures, models: &[TrainedBefore]) -> String {
    let section = section(figures, models).into_string();
    let own = html.find(BEGIN).and_then(|begin| Some((begin, begin + html[begin..].find(END)? + END.len())));
    let end = || html.rfind("</body>").unwrap_or(html.len());
    let (begin, end) = own.unwrap_or_else(|| (end(), end()));
    format!("{}{section}{}", &html[..begin], &html[end..])
}

fn changes(figures: &Figures) -> Markup {
    html! {
        h2 { "Retractions" }
        p { "Taken out of the shards after they were published: " (counted(figures.documents(), "document")) ". Other sections show the figures of the day the shards were published." }
        div.scroll { table {
            thead { tr { th { "record" } th { "documents" } th { "tokens taken out" } th { "refilled" } th { "short" } th { "checkpoints before" } } }
            tbody { @for one in &figures.retractions { tr {
                td { code { (one.record) } } td { (count(one.documents)) } td { (count(one.tokens)) }
                td { (count(one.refilled)) } td { (count(one.short)) } td { (count(one.checkpoints)) }
            } } }
        } }
        div.scroll { table {
            thead { tr { th { "part" } th { "sequences published" } th { "now" } th { "tokens published" } th { "now" } th { "padding now" } th { "segments now" } } }
            tbody { @for PartFigures { part, published, now } in figures.held() { tr {
                td { (part.name()) } td { (count(published.sequences)) } td { (count(now.sequences)) } td { (count(published.tokens)) }
                td { (count(now.tokens)) } td { (count(now.padding)) } td { (now.segments.map_or_else(|| "–".to_owned(), count)) }
            } } }
        } }
        div.scroll { table {
            thead { tr { th { "source" } th { "training tokens published" } th { "taken out" } th { "refilled" } th { "now" } } }
            tbody { @for source in &figures.sources { tr {
                td { (source.source) } td { (count(source.published)) } td { (count(source.taken)) } td { (count(source.refilled)) } td { (count(source.now())) }
            } } }
        } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_written_again_and_a_page_without_one_gets_it_at_its_end() {
        let models = [TrainedBefore { checkpoint: "checkpoints/cpt/step-00000002".into(), base: None, before: None }];
        let once = with_retractions("<body><p>a</p></body>", &Figures::default(), &models);
        assert!(once.starts_with("<body><p>a</p><section id=\"retractions\">") && once.ends_with("</section></body>"), "{once}");
        assert!(once.contains("step-00000002"));
        let none = with_retractions(&once, &Figures::default(), &[]);
        assert_eq!(none, "<body><p>a</p><section id=\"retractions\"></section></body>");
        assert_eq!(with_retractions(&none, &Figures::default(), &models), once);
    }
}
