//! The local names of the elements that the XML readers know, as numbers: a walk over a tree compares no strings.
//!
//! PubMed, JATS and `MathML` in one list; a name that no reader looks at is [`Name::Other`].

/// Slots of the table; a power of two, more than twice the names.
const SLOTS: usize = 1024;

macro_rules! names {
    ($($name:ident = $text:literal,)*) => {
        /// A local name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Name {
            /// A name that is not listed.
            Other,
            $(
                #[doc = concat!("`", $text, "`")]
                $name,
            )*
        }

        /// In the order of their numbers.
        const LIST: &[(Name, &str)] = &[(Name::Other, ""), $((Name::$name, $text),)*];
    };
}

names! {
    // JATS.
    Abstract = "abstract",
    Ack = "ack",
    Aff = "aff",
    AltText = "alt-text",
    Alternatives = "alternatives",
    Annotation = "annotation",
    Answer = "answer",
    App = "app",
    AppGroup = "app-group",
    Array = "array",
    Article = "article",
    ArticleCategories = "article-categories",
    ArticleId = "article-id",
    ArticleMeta = "article-meta",
    JatsArticleTitle = "article-title",
    Attrib = "attrib",
    AuthorNotes = "author-notes",
    AwardGroup = "award-group",
    Back = "back",
    Body = "body",
    BoxedText = "boxed-text",
    Br = "br",
    Break = "break",
    Caption = "caption",
    ChemStructWrap = "chem-struct-wrap",
    Citation = "citation",
    CitationAlternatives = "citation-alternatives",
    Code = "code",
    Colgroup = "colgroup",
    Collab = "collab",
    CompoundKwd = "compound-kwd",
    CompoundKwdPart = "compound-kwd-part",
    CompoundSubject = "compound-subject",
    CompoundSubjectPart = "compound-subject-part",
    ContribGroup = "contrib-group",
    CopyrightHolder = "copyright-holder",
    CopyrightStatement = "copyright-statement",
    CopyrightYear = "copyright-year",
    Def = "def",
    DefItem = "def-item",
    DefList = "def-list",
    DispFormula = "disp-formula",
    DispFormulaGroup = "disp-formula-group",
    DispQuote = "disp-quote",
    ElementCitation = "element-citation",
    Entry = "entry",
    Explanation = "explanation",
    Fig = "fig",
    FigGroup = "fig-group",
    FloatsGroup = "floats-group",
    Fn = "fn",
    FnGroup = "fn-group",
    Fpage = "fpage",
    Front = "front",
    FrontStub = "front-stub",
    GivenNames = "given-names",
    Graphic = "graphic",
    IndexTerm = "index-term",
    InlineFormula = "inline-formula",
    InlineGraphic = "inline-graphic",
    InlineMedia = "inline-media",
    Issue = "issue",
    JournalMeta = "journal-meta",
    JournalTitle = "journal-title",
    JournalTitleGroup = "journal-title-group",
    Kwd = "kwd",
    KwdGroup = "kwd-group",
    Label = "label",
    License = "license",
    LicenseP = "license-p",
    LicenseRef = "license_ref",
    List = "list",
    ListItem = "list-item",
    LongDesc = "long-desc",
    Lpage = "lpage",
    Media = "media",
    MixedCitation = "mixed-citation",
    Person = "name",
    NlmCitation = "nlm-citation",
    Note = "note",
    ObjectId = "object-id",
    P = "p",
    Permissions = "permissions",
    PersonGroup = "person-group",
    Prefix = "prefix",
    Preformat = "preformat",
    PrivateChar = "private-char",
    ProcessingMeta = "processing-meta",
    PubDate = "pub-date",
    PubId = "pub-id",
    Publisher = "publisher-name",
    Question = "question",
    Ref = "ref",
    RefList = "ref-list",
    RelatedArticle = "related-article",
    RelatedObject = "related-object",
    Response = "response",
    Row = "row",
    Sec = "sec",
    SecMeta = "sec-meta",
    Sep = "sep",
    SigBlock = "sig-block",
    Source = "source",
    Speech = "speech",
    Statement = "statement",
    Sub = "sub",
    SubArticle = "sub-article",
    SubjGroup = "subj-group",
    Subject = "subject",
    Subtitle = "subtitle",
    Sup = "sup",
    SupplementaryMaterial = "supplementary-material",
    Suffix = "suffix",
    Surname = "surname",
    Table = "table",
    TableWrap = "table-wrap",
    TableWrapFoot = "table-wrap-foot",
    TableWrapGroup = "table-wrap-group",
    Tbody = "tbody",
    Td = "td",
    Term = "term",
    TexMath = "tex-math",
    Tfoot = "tfoot",
    Th = "th",
    Thead = "thead",
    Title = "title",
    TitleGroup = "title-group",
    Tr = "tr",
    TransAbstract = "trans-abstract",
    TransTitle = "trans-title",
    TransTitleGroup = "trans-title-group",
    VerseGroup = "verse-group",
    VerseLine = "verse-line",
    Volume = "volume",
    Xref = "xref",
    Year = "year",
    // MathML.
    AnnotationXml = "annotation-xml",
    Maligngroup = "maligngroup",
    Math = "math",
    Mfenced = "mfenced",
    Mfrac = "mfrac",
    Mi = "mi",
    Mlabeledtr = "mlabeledtr",
    Mmultiscripts = "mmultiscripts",
    Mn = "mn",
    Mo = "mo",
    Mover = "mover",
    Mphantom = "mphantom",
    Mprescripts = "mprescripts",
    Mroot = "mroot",
    Mrow = "mrow",
    Ms = "ms",
    Mspace = "mspace",
    Msqrt = "msqrt",
    Msub = "msub",
    Msubsup = "msubsup",
    Msup = "msup",
    Mtable = "mtable",
    Mtext = "mtext",
    Mtr = "mtr",
    Munder = "munder",
    Munderover = "munderover",
    NoScript = "none",
    Semantics = "semantics",
    // PubMed.
    PubmedAbstract = "Abstract",
    AbstractText = "AbstractText",
    PubmedArticle = "Article",
    ArticleDate = "ArticleDate",
    PubmedArticleId = "ArticleId",
    ArticleIdList = "ArticleIdList",
    ArticleTitle = "ArticleTitle",
    Book = "Book",
    BookDocument = "BookDocument",
    BookTitle = "BookTitle",
    CommentsCorrections = "CommentsCorrections",
    CommentsCorrectionsList = "CommentsCorrectionsList",
    ContributionDate = "ContributionDate",
    CopyrightInformation = "CopyrightInformation",
    DeleteCitation = "DeleteCitation",
    DeleteDocument = "DeleteDocument",
    Descriptor = "DescriptorName",
    PubmedDispFormula = "DispFormula",
    ELocationId = "ELocationID",
    Journal = "Journal",
    JournalIssue = "JournalIssue",
    Keyword = "Keyword",
    KeywordList = "KeywordList",
    Language = "Language",
    MedlineCitation = "MedlineCitation",
    MedlineDate = "MedlineDate",
    MeshHeading = "MeshHeading",
    MeshHeadingList = "MeshHeadingList",
    OtherAbstract = "OtherAbstract",
    Pmid = "PMID",
    PubmedPubDate = "PubDate",
    PublicationType = "PublicationType",
    PublicationTypeList = "PublicationTypeList",
    PubmedBookArticle = "PubmedBookArticle",
    PubmedData = "PubmedData",
    Qualifier = "QualifierName",
    RefSource = "RefSource",
    PubmedTitle = "Title",
    VernacularTitle = "VernacularTitle",
    PubmedYear = "Year",
}

/// Numbers of names by hash, with the next free slot for those that fall together; 0 is an empty one.
static TABLE: [u8; SLOTS] = table();

const fn table() -> [u8; SLOTS] {
    let mut table = [0; SLOTS];
    let mut number = 1;
    while number < LIST.len() {
        let mut slot = slot_of(LIST[number].1.as_bytes());
        while table[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = number as u8;
        number += 1;
    }
    table
}

/// FNV-1a, folded to the size of the table.
const fn slot_of(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((hash >> 10) ^ hash) as usize % SLOTS
}

impl Name {
    /// The name with this spelling.
    #[inline]
    pub(crate) fn of(local_name: &[u8]) -> Self {
        let mut slot = slot_of(local_name);
        loop {
            let (name, text) = LIST[usize::from(TABLE[slot])];
            if name == Self::Other || text.as_bytes() == local_name {
                return name;
            }
            slot = (slot + 1) % SLOTS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_nothing_else() {
        assert!(LIST.len() <= 256 && LIST.len() * 2 < SLOTS);
        for &(name, text) in LIST {
            assert_eq!(Name::of(text.as_bytes()), name, "{text}");
            assert_eq!(Name::of(format!("{text}x").as_bytes()), Name::Other);
        }
        for other in ["", "contrib", "PMid", "abstracT"] {
            assert_eq!(Name::of(other.as_bytes()), Name::Other);
        }
    }
}
