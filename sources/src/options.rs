//! What readers keep of a record: the policies of a source's `read` table in the recipe, with their defaults.
//!
//! The defaults are those of a corpus to train on: running text with its headings and captions, without apparatus.

use serde::{Deserialize, Serialize};

use crate::document::Document;

/// Tables of an article.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tables {
    /// Neither table nor caption.
    Drop,
    /// Label and caption.
    #[default]
    Caption,
    /// Label and caption, then one line a row with ` | ` between the cells.
    Linearize,
}

/// Formulas of an article.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Formulas {
    /// Left out with everything in them: `inline-formula`, `disp-formula`, `MathML`, TeX.
    Drop,
    /// `MathML` as readable text; where there is only TeX, nothing.
    #[default]
    Readable,
    /// TeX as written where there is any, else `MathML` as readable text.
    Tex,
}

/// Markers such as `[12]` or `Figure 3` in running text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Markers {
    /// As they stand.
    #[default]
    Keep,
    /// Left out, with the brackets that hold nothing else.
    Drop,
}

/// Answers, reviews and translations that an article brings with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubArticles {
    /// Left out.
    #[default]
    Drop,
    /// Documents of their own, named `PARENT/ID`.
    Separate,
}

/// Articles that their journal took back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retracted {
    /// Recorded and dropped, every version of them.
    #[default]
    Drop,
    /// Kept, with `retracted` in the meta data.
    Keep,
}

/// A source's `read` table. Every key may be left out; formats ignore what does not concern them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the recipe's table, independent of the others")]
pub struct ReadOptions {
    /// Tables (JATS). Default `caption`.
    pub tables: Tables,
    /// Formulas (JATS, PubMed). Default `readable`.
    pub formulas: Formulas,
    /// Markers of references to the literature (JATS). Default `keep`.
    pub citations: Markers,
    /// All other markers: of references to figures, tables, sections, notes (JATS). Default `keep`.
    pub cross_references: Markers,
    /// Footnotes, behind the paragraph that they belong to or at the end (JATS). Default false.
    pub footnotes: bool,
    /// Acknowledgements (JATS). Default false.
    pub acknowledgements: bool,
    /// Appendices (JATS). Default false.
    pub appendices: bool,
    /// The list of references (JATS). Default false.
    pub references: bool,
    /// Answers, reviews and translations (JATS). Default `drop`.
    pub sub_articles: SubArticles,
    /// Retracted articles (PubMed, JATS). Default `drop`.
    pub retracted: Retracted,
    /// Names of the sets to take of a collection (`pile`, `redpajama`), as its records write them in `pile_set_name`,
    /// `redpajama_set_name` or `red_pajama_subset`. Default: empty, which takes all. Records of other sets, and of none, are dropped as `not-selected`.
    pub sets: Vec<String>,
}

/// Keys of the meta data that name the set of a record.
const SET_KEYS: [&str; 3] = ["pile_set_name", "redpajama_set_name", "red_pajama_subset"];

impl ReadOptions {
    /// Whether a document belongs to the sets to take.
    pub fn selects(&self, document: &Document) -> bool {
        let set = || SET_KEYS.iter().find_map(|key| document.meta.get(*key));
        self.sets.is_empty() || set().is_some_and(|set| self.sets.contains(set))
    }
}
