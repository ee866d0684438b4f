//! Chat templates: turns of a conversation to token spans, the same for tuning, scoring and serving.
//!
//! A template is a named constant; its name is stored with every result. It decides text alone: begin and end tokens are
//! the mask's part ([`mask_conversation`]).

use std::fmt;
use std::str::FromStr;

use crate::masks::{Bos, Eos, MaskedRun, Span, mask_conversation};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Who says a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// Instructions for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// The templates there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// `Human: ⏎{text}⏎⏎Assistant: ⏎`, the one template in the code of Me-LLaMA (`me-llama.md` 4.2).
    Mellama,
    /// `[INST] {text} [/INST] `, with `<<SYS>>` blocks, as LLaMA-2 chat models were tuned.
    Llama2Chat,
    /// The text alone, and a line break.
    None,
}

impl Template {
    /// Every template.
    pub const ALL: [Template; 3] = [Template::Mellama, Template::Llama2Chat, Template::None];

    /// The name in recipes and results.
    pub fn as_str(self) -> &'static str {
        match self {
            Template::Mellama => "mellama",
            Template::Llama2Chat => "llama2-chat",
            Template::None => "none",
        }
    }

    /// The text before the model's answer to `user`, `system` being what a system turn before it said.
    pub fn prompt(self, system: Option<&str>, user: &str) -> String {
        match (self, system) {
            (Template::Mellama, None) => format!("Human: \n{user}\n\nAssistant: \n"),
            (Template::Mellama, Some(system)) => {
                format!("Human: \n{system}\n\n{user}\n\nAssistant: \n")
            }
            (Template::Llama2Chat, None) => format!("[INST] {user} [/INST]"),
            (Template::Llama2Chat, Some(system)) => {
                format!("[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{user} [/INST]")
            }
            (Template::None, None) => format!("{user}\n"),
            (Template::None, Some(system)) => format!("{system}\n{user}\n"),
        }
    }

    /// What stands between the prompt and the answer. It is part of the answer: the space behind `[/INST]` begins its first token.
    pub fn answer_start(self) -> &'static str {
        match self {
            Template::Llama2Chat => " ",
            Template::Mellama | Template::None => "",
        }
    }

    /// The same as a chat template of Hugging Face (Jinja), begin and end tokens where [`encode`](Self::encode) puts them. A prompt is
    /// always followed by what an answer begins with, asked for or not.
    pub fn jinja(self) -> String {
        let (before, between, after) = match self {
            Template::Mellama => ("'Human: \\n'", "system + '\\n\\n'", "'\\n\\nAssistant: \\n'"),
            Template::Llama2Chat => ("bos_token + '[INST] '", "'<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n'", "' [/INST]'"),
            Template::None => ("''", "system + '\\n'", "'\\n'"),
        };
        let start = if self == Template::Llama2Chat { "" } else { "{{ bos_token }}" };
        let answer = if self.answer_start().is_empty() { "" } else { "' ' + " };
        format!(
            "{start}{{% set said = namespace(system='') %}}{{% for message in messages %}}\
             {{% if message['role'] == 'system' %}}{{% set said.system = message['content'] %}}\
             {{% elif message['role'] == 'user' %}}{{% set system = said.system %}}{{% set said.system = '' %}}\
             {{{{ {before} + ({between} if system else '') + message['content'] + {after} }}}}\
             {{% else %}}{{{{ {answer}message['content'] + eos_token }}}}{{% endif %}}{{% endfor %}}"
        )
    }

    /// A conversation as tokens with a loss mask: answers and the end token after each are trained, all else is not.
    ///
    /// Prompt and answer are encoded as one text and cut at the prompt's length, so that the answer's tokens are those
    /// that the model will see when it generates; where the prompt's tokens are no prefix of the whole, apart.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn encode(self, tokenizer: &Tokenizer, turns: &[(Speaker, &str)]) -> Result<MaskedRun, TokenizerError> {
        let mut spans = Vec::new();
        let (mut system, mut pending): (Option<&str>, Option<String>) = (None, None);
        for (speaker, text) in turns {
            match speaker {
                Speaker::System => system = Some(text),
                Speaker::User => pending = Some(self.prompt(system.take(), text)),
                Speaker::Assistant => {
                    let answer = format!("{}{text}", self.answer_start());
                    let (prompt, answer) = exchange(tokenizer, &pending.take().unwrap_or_default(), &answer)?;
                    spans.push(Span { tokens: prompt, trained: false });
                    spans.push(Span { tokens: answer, trained: true });
                }
            }
        }
        let bos = match (self, tokenizer.bos()) {
            (_, None) => Bos::Never,
            (Template::Llama2Chat, Some(id)) => Bos::EachTurn(id),
            (_, Some(id)) => Bos::Start(id),
        };
        Ok(mask_conversation(&spans, bos, tokenizer.eos().map_or(Eos::Never, Eos::EachTrained)))
    }
}

fn exchange(tokenizer: &Tokenizer, prompt: &str, answer: &str) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
    let before = tokenizer.encode(prompt)?;
    let whole = tokenizer.encode(&format!("{prompt}{answer}"))?;
    match whole.strip_prefix(before.as_slice()) {
        Some(rest) => Ok((before, rest.to_vec())),
        None => Ok((before, tokenizer.encode(answer)?)),
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A template name that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template \"{0}\": not known; use mellama, llama2-chat or none")]
pub struct UnknownTemplate(String);

impl FromStr for Template {
    type Err = UnknownTemplate;

    fn from_str(name: &str) -> Result<Template, UnknownTemplate> {
        Template::ALL.into_iter().find(|t| t.as_str() == name).ok_or_else(|| UnknownTemplate(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Template;

    #[test]
    fn prompts_are_as_documented() {
        let check = |template: Template, system, expected: &str| {
            assert_eq!(template.prompt(system, "Why?"), expected);
        };
        check(Template::Mellama, None, "Human: \nWhy?\n\nAssistant: \n");
        check(Template::Llama2Chat, Some("Be brief."), "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhy? [/INST]");
        check(Template::None, None, "Why?\n");
        for template in Template::ALL {
            assert_eq!(template.as_str().parse(), Ok(template));
        }
        assert!("chatml".parse::<Template>().is_err());
    }

    #[test]
    fn jinja_has_the_texts_of_the_prompts() {
        let text = |template: Template| template.jinja().replace("\\n", "\n");
        for part in ["Human: \n", "\n\nAssistant: \n", "{{ bos_token }}"] {
            assert!(text(Template::Mellama).contains(part), "{part}");
        }
        for part in ["bos_token + '[INST] '", "<<SYS>>\n", "\n<</SYS>>\n\n", "' ' + message['content'] + eos_token"] {
            assert!(text(Template::Llama2Chat).contains(part), "{part}: {}", text(Template::Llama2Chat));
        }
        for template in Template::ALL {
            let jinja = template.jinja();
            assert_eq!(jinja.matches("{%").count(), jinja.matches("%}").count(), "{jinja}");
            assert_eq!(jinja.matches("{{").count(), jinja.matches("}}").count(), "{jinja}");
        }
    }
}
