//! Prompts of our own wording. Each has a name and a digest that stand in every result; a changed word is a new name.
//!
//! Prompts that travel with the data (Me-LLaMA's `query`) are not here.

/// A prompt under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptTemplate {
    /// Its name, ending in its version.
    pub name: &'static str,
    /// Its text, with the names of the parts that are put in, in braces.
    pub text: &'static str,
}

/// The prompt is the row's `query`, unchanged.
pub const QUERY_PROMPT: PromptTemplate = PromptTemplate { name: "query-1", text: "{query}" };

/// PubMedQA: abstract, then question, answered in one word.
pub const PUBMEDQA_PROMPT: PromptTemplate = PromptTemplate {
    name: "pubmedqa-1",
    text: "You are an expert in biomedical research. Read the abstract and decide whether it answers the question with \
           yes, no or maybe.\n\nAbstract:\n{contexts}\n\nQuestion: {question}\n\nAnswer (yes, no or maybe):",
};

impl PromptTemplate {
    /// BLAKE3, in hex, of name, NUL and text.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.name.as_bytes()).update(&[0]).update(self.text.as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

/// PubMedQA's prompt for one question; contexts one a line.
pub(crate) fn pubmedqa_prompt(contexts: &[String], question: &str) -> String {
    // One pass over the template: braces in the data are data.
    let (before, rest) = PUBMEDQA_PROMPT.text.split_once("{contexts}").expect("the template has the contexts");
    let (between, after) = rest.split_once("{question}").expect("the template has the question after them");
    [before, &contexts.join("\n"), between, question, after].concat()
}

#[cfg(test)]
mod tests {
    use super::{PUBMEDQA_PROMPT, QUERY_PROMPT, pubmedqa_prompt};

    #[test]
    fn parts_are_put_in_as_they_are() {
        let prompt = pubmedqa_prompt(&["One {question}.".to_owned(), "Two.".to_owned()], "Is {contexts} so?");
        assert!(prompt.contains("Abstract:\nOne {question}.\nTwo.\n\nQuestion: Is {contexts} so?\n\nAnswer"), "{prompt}");
        assert!(prompt.ends_with("maybe):"));
    }

    #[test]
    fn golden_digests_change_with_a_new_version_only() {
        assert_ne!(PUBMEDQA_PROMPT.digest(), QUERY_PROMPT.digest());
        assert_eq!(PUBMEDQA_PROMPT.digest(), "fe41e8e98967d753bed638a8e90ccb89a17184913fde7505aaa8a3044d58840a");
    }
}
