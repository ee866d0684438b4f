//! Loss masks of instruction data: which tokens of a conversation are learned from.
//!
//! It joins token spans that a template already made; the template's words and the tokenizer live elsewhere.

/// Tokens with a loss mask of the same length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaskedRun {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Whether the loss of predicting this token counts.
    pub mask: Vec<bool>,
}

impl MaskedRun {
    fn push(&mut self, tokens: &[u32], trained: bool) {
        self.tokens.extend_from_slice(tokens);
        self.mask.resize(self.tokens.len(), trained);
    }

    /// Number of tokens that are learned from.
    pub fn trained(&self) -> usize {
        self.mask.iter().filter(|&&trained| trained).count()
    }
}

/// A part of a conversation after the template: prompt text and role marks are not trained, answers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Token ids, without BOS and EOS.
    pub tokens: Vec<u32>,
    /// Whether the model learns to write them.
    pub trained: bool,
}

/// Where BOS stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bos {
    /// Nowhere.
    Never,
    /// This id once, at the start of the conversation.
    Start(u32),
    /// This id at the start and again before the first span after each trained one, as Llama-2's chat format has it.
    EachTurn(u32),
}

/// Where EOS stands. It is trained where it ends a trained span: the model has to learn to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eos {
    /// Nowhere.
    Never,
    /// This id once, at the end of the conversation; trained when the last span is.
    End(u32),
    /// This id after each trained span, trained.
    EachTrained(u32),
}

/// Joins the spans of one conversation and says which tokens are trained. BOS is never trained.
///
/// Adjacent trained spans count as one answer for [`Eos::EachTrained`] and [`Bos::EachTurn`]. Spans without tokens are
/// ignored, except that a trained one still ends its answer: an empty answer teaches to stop at once.
/// No spans give no tokens at all, whatever the policies.
pub fn mask_conversation(spans: &[Span], bos: Bos, eos: Eos) -> MaskedRun {
    let mut run = MaskedRun::default();
    for (index, span) in spans.iter().enumerate() {
        let after_answer = index > 0 && spans[index - 1].trained && !span.trained;
        match bos {
            Bos::Start(id) if index == 0 => run.push(&[id], false),
            Bos::EachTurn(id) if index == 0 || after_answer => run.push(&[id], false),
            _ => {}
        }
        run.push(&span.tokens, span.trained);
        let is_last = index + 1 == spans.len();
        let ends_answer = span.trained && (is_last || !spans[index + 1].trained);
        match eos {
            Eos::EachTrained(id) if ends_answer => run.push(&[id], true),
            Eos::End(id) if is_last => run.push(&[id], span.trained),
            _ => {}
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use super::{Bos, Eos, MaskedRun, Span, mask_conversation};

    /// Spans from text: `10 11 | +20 21 | 30` has an untrained, a trained and an untrained span.
    fn spans(text: &str) -> Vec<Span> {
        let parse = |part: &str| {
            let trained = part.starts_with('+');
            let tokens = part.trim_start_matches('+').split_whitespace().map(|id| id.parse().unwrap()).collect();
            Span { tokens, trained }
        };
        text.split('|').map(str::trim).filter(|part| !part.is_empty()).map(parse).collect()
    }

    /// `expected` marks trained ids with a plus.
    fn check(text: &str, bos: Bos, eos: Eos, expected: &str) {
        let MaskedRun { tokens, mask } = mask_conversation(&spans(text), bos, eos);
        assert_eq!(tokens.len(), mask.len());
        let shown: Vec<String> =
            tokens.iter().zip(&mask).map(|(id, &trained)| format!("{}{id}", if trained { "+" } else { "" })).collect();
        assert_eq!(shown.join(" "), expected, "{text} {bos:?} {eos:?}");
    }

    #[test]
    fn answers_are_trained_and_prompts_are_masked() {
        check("10 11 | +20", Bos::Never, Eos::Never, "10 11 +20");
        check("10 | +20", Bos::Start(1), Eos::End(2), "1 10 +20 +2");
        check("10 | +20 | 30 | +40", Bos::Start(1), Eos::EachTrained(2), "1 10 +20 +2 30 +40 +2");
        check("10 | +20 | 30 | +40", Bos::EachTurn(1), Eos::EachTrained(2), "1 10 +20 +2 1 30 +40 +2");
        check("10 | +20 | 30 | +40", Bos::Start(1), Eos::End(2), "1 10 +20 30 +40 +2");
    }

    #[test]
    fn the_end_of_an_unanswered_prompt_is_not_trained() {
        check("10 | +20 | 30", Bos::Start(1), Eos::End(2), "1 10 +20 30 2");
        check("10 | +20 | 30", Bos::EachTurn(1), Eos::EachTrained(2), "1 10 +20 +2 1 30");
        check("10", Bos::Start(1), Eos::EachTrained(2), "1 10");
    }

    #[test]
    fn adjacent_and_empty_spans_have_one_meaning() {
        check("10 | +20 | +21", Bos::EachTurn(1), Eos::EachTrained(2), "1 10 +20 +21 +2");
        check("10 | +", Bos::Start(1), Eos::EachTrained(2), "1 10 +2");
        check("", Bos::Start(1), Eos::End(2), "");
        assert_eq!(mask_conversation(&spans("10 | +20 21"), Bos::Start(1), Eos::EachTrained(2)).trained(), 3);
    }
}
