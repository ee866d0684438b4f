//! What a card says after retractions: figures of the shards now beside those that were published.

use std::fmt::Write as _;

use super::escape;
use crate::figures::{Figures, PartFigures};
use crate::placements::Part;
use crate::wording::counted;

/// Begins the sentence with the tokens for training.
pub(super) const HEADLINE: &str = "Packed token shards, ";
/// Ends it.
pub(super) const HEADLINE_END: &str = " tokens for training, written by mellama.\n";
/// Headings of the sections between which figures of the shards stand.
pub(super) const COUNTS: &str = "## Counts\n";
pub(super) const SOURCES: &str = "## Sources\n";

/// The card with the figures of the shards now: tokens of the headline, the section of counts, and a section of retractions. All
/// else stays. A card without these places gets the sections at its end.
pub(crate) fn with_retractions(card: &str, figures: &Figures) -> String {
    let sections = format!("{}{}", counts(figures), retractions(figures));
    let begin = card.find(&format!("\n{COUNTS}")).map(|at| at + 1);
    let end = begin.and_then(|begin| Some(begin + card[begin..].find(&format!("\n{SOURCES}"))? + 1));
    let (before, after) = match begin.zip(end) {
        Some((begin, end)) => (&card[..begin], &card[end..]),
        None => (card, ""),
    };
    format!("{}{sections}{after}", headline(before, figures))
}

fn headline(text: &str, figures: &Figures) -> String {
    let place = || {
        let begin = text.find(HEADLINE)? + HEADLINE.len();
        Some((begin, begin + text[begin..].find(HEADLINE_END)?))
    };
    match place().zip(figures.part(Part::Train)) {
        Some(((begin, end), train)) => format!("{}{}{}", &text[..begin], train.now.tokens, &text[end..]),
        None => text.to_owned(),
    }
}

fn counts(figures: &Figures) -> String {
    let mut text = format!(
        "{COUNTS}\nAfter the retractions below:\n\n| part | sequences | tokens | padding | segments |\n|---|---|---|---|---|\n"
    );
    for PartFigures { part, now, .. } in figures.held() {
        let segments = now.segments.map_or_else(|| "–".to_owned(), |segments| segments.to_string());
        let _ = writeln!(text, "| {} | {} | {} | {} | {segments} |", title(*part), now.sequences, now.tokens, now.padding);
    }
    text.push('\n');
    text
}

fn retractions(figures: &Figures) -> String {
    let mut text = format!(
        "## Retractions\n\nTaken out of the shards after they were published: {}; `retractions/` has the records. The \
         sections below, and what they say of sources and licences, are of the day the shards were published.\n\n\
         | record | documents | tokens taken out | refilled | short of the quota |\n|---|---|---|---|---|\n",
        counted(figures.documents(), "document")
    );
    for one in &figures.retractions {
        let _ = writeln!(text, "| `{}` | {} | {} | {} | {} |", one.record, one.documents, one.tokens, one.refilled, one.short);
    }
    text.push_str("\n| part | sequences published | now | tokens published | now |\n|---|---|---|---|---|\n");
    for PartFigures { part, published, now } in figures.held() {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            title(*part),
            published.sequences,
            now.sequences,
            published.tokens,
            now.tokens
        );
    }
    text.push_str("\n| source | training tokens published | taken out | refilled | now |\n|---|---|---|---|---|\n");
    for source in &figures.sources {
        let (name, published, now) = (escape(&source.source), source.published, source.now());
        let _ = writeln!(text, "| {name} | {published} | {} | {} | {now} |", source.taken, source.refilled);
    }
    text.push('\n');
    text
}

fn title(part: Part) -> &'static str {
    match part {
        Part::Train => "**training**",
        Part::Heldout => "**held out**",
        Part::Instruct => "**instruction**",
    }
}
