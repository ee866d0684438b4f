//! Which elements of PubMed and JATS are left out, and which stand in paragraphs of their own.

use crate::names::Name;

/// Elements that are left out with everything in them.
pub(super) fn is_left_out(name: Name) -> bool {
    matches!(
        name,
        Name::Ack
            | Name::Aff
            | Name::AltText
            | Name::Annotation
            | Name::App
            | Name::AppGroup
            | Name::Attrib
            | Name::AuthorNotes
            | Name::AwardGroup
            | Name::Citation
            | Name::Colgroup
            | Name::ContribGroup
            | Name::CopyrightStatement
            | Name::ElementCitation
            | Name::Graphic
            | Name::IndexTerm
            | Name::InlineGraphic
            | Name::InlineMedia
            | Name::KwdGroup
            | Name::License
            | Name::LongDesc
            | Name::Media
            | Name::MixedCitation
            | Name::NlmCitation
            | Name::ObjectId
            | Name::Permissions
            | Name::PrivateChar
            | Name::ProcessingMeta
            | Name::RefList
            | Name::RelatedArticle
            | Name::RelatedObject
            | Name::Response
            | Name::SecMeta
            | Name::SigBlock
            | Name::SubArticle
            | Name::SubjGroup
            | Name::SupplementaryMaterial
            | Name::TransAbstract
    )
}

/// Elements that stand in paragraphs of their own.
pub(super) fn is_block(name: Name) -> bool {
    matches!(
        name,
        Name::P
            | Name::Title
            | Name::Subtitle
            | Name::DispQuote
            | Name::Statement
            | Name::VerseGroup
            | Name::VerseLine
            | Name::Speech
            | Name::Question
            | Name::Answer
            | Name::Explanation
            | Name::Abstract
            | Name::Body
            | Name::Caption
            | Name::Def
            | Name::FloatsGroup
    )
}
