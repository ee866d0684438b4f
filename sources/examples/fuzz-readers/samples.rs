//! Small valid inputs of every format, all invented, and the words that mean something in them.

use mellama_sources::Format;

pub(crate) const XML_WORDS: &[&str] = &[
    "<PubmedArticleSet>",
    "</PubmedArticleSet>",
    "<PubmedArticle>",
    "</PubmedArticle>",
    "<MedlineCitation>",
    "</MedlineCitation>",
    "<PMID Version='1'>",
    "</PMID>",
    "<Article>",
    "</Article>",
    "<ArticleTitle>",
    "</ArticleTitle>",
    "<DeleteCitation>",
    "</DeleteCitation>",
    "<article>",
    "</article>",
    "<pmc-articleset>",
    "<OAI-PMH>",
    "<body>",
    "</body>",
    "<sec>",
    "</sec>",
    "<p>",
    "</p>",
    "<title>",
    "</title>",
    "<sup>",
    "</sup>",
    "<sub>",
    "</sub>",
    "<xref ref-type='bibr'>",
    "</xref>",
    "<table>",
    "</table>",
    "<tr>",
    "</tr>",
    "<td colspan='9' rowspan='99'>",
    "</td>",
    "<math>",
    "</math>",
    "<mfrac>",
    "</mfrac>",
    "<msup>",
    "</msup>",
    "<mmultiscripts>",
    "<mprescripts/>",
    "<none/>",
    "<mi>",
    "</mi>",
    "<tex-math>",
    "</tex-math>",
    "<list>",
    "</list>",
    "<list-item>",
    "</list-item>",
    "<def-list>",
    "<def-item>",
    "<fn>",
    "</fn>",
    "<ref-list>",
    "<ref>",
    "<sub-article>",
    "</sub-article>",
    "<back>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?",
    "?>",
    "<!DOCTYPE a [",
    "<!ENTITY b SYSTEM 'c'>",
    "]>",
    "&lt;",
    "&b;",
    "&",
    "&#x",
    "&#1;",
    "&#65;",
    ";",
    "<",
    ">",
    "/>",
    "\"",
    "'",
    "=",
    " xml:lang='fr'",
    "12",
    " ",
    "é",
    "\u{2009}",
    "\u{feff}",
    "<mml:a/>",
    "(",
    "]",
    "<?xml version='1.0' encoding='ISO-8859-1'?>",
    "encoding='utf-16'",
];

pub(crate) const CSV_WORDS: &[&str] = &[
    "\"",
    "\"\"",
    ",",
    "\n",
    "\r\n",
    "\r",
    "\"\n\"",
    ",,,,",
    "ROW_ID",
    "note_id",
    "TEXT",
    "text",
    "id",
    "1",
    "[**2101-1-1**]",
    "___",
    "Discharge summary",
    "é",
    "\u{feff}",
    "\0",
];

pub(crate) const JSON_WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u",
    "\\ud83d",
    "\\ude00",
    "\\n",
    "\n",
    "\"text\"",
    "\"id\"",
    "\"meta\"",
    "\"pile_set_name\"",
    "\"red_pajama_subset\"",
    "\"raw_content\"",
    "\"paper_id\"",
    "\"corpusid\"",
    "\"content\"",
    "\"annotations\"",
    "\"body_text\"",
    "null",
    "true",
    "1e999",
    "-0",
    "12345678901234567890",
    "0.1",
    " ",
    "é",
    "\u{feff}",
];

const CITATIONS: &str = "<?xml version=\"1.0\"?>\n<!DOCTYPE PubmedArticleSet>\n<PubmedArticleSet>\n\
    <PubmedArticle><MedlineCitation><PMID Version=\"1\">1</PMID><Article><Journal><JournalIssue><PubDate><Year>2001</Year></PubDate>\
    </JournalIssue><Title>J</Title></Journal><ArticleTitle>On &lt;x&gt; and 10<sup>-3</sup>.</ArticleTitle><Abstract><AbstractText \
    Label=\"AIM\">a &#945; b</AbstractText><AbstractText>H<sub>2</sub>O <mml:math><mml:mfrac><mml:mi>a</mml:mi><mml:mi>b</mml:mi>\
    </mml:mfrac></mml:math></AbstractText></Abstract><VernacularTitle>Sur x.</VernacularTitle></Article><MeshHeadingList><MeshHeading>\
    <DescriptorName>Heart</DescriptorName></MeshHeading></MeshHeadingList><CommentsCorrectionsList><CommentsCorrections \
    RefType=\"RetractionOf\"><PMID>9</PMID></CommentsCorrections></CommentsCorrectionsList></MedlineCitation></PubmedArticle>\n\
    <PubmedBookArticle><BookDocument><PMID>2</PMID><Book><BookTitle>B</BookTitle></Book></BookDocument></PubmedBookArticle>\n\
    <DeleteCitation><PMID>3</PMID><PMID>4</PMID></DeleteCitation></PubmedArticleSet>\n";

const ARTICLE: &str = "<article article-type=\"research-article\" xml:lang=\"en\"><front><article-meta><article-id \
    pub-id-type=\"pmc\">5</article-id><title-group><article-title>T</article-title><trans-title-group xml:lang=\"fr\"><trans-title>U\
    </trans-title></trans-title-group></title-group><permissions><license license-type=\"cc-by\"/></permissions><abstract><sec><title>A\
    </title><p>a</p></sec></abstract><kwd-group><kwd>k</kwd></kwd-group></article-meta></front><body><sec><label>1</label><title>I\
    </title><p>See [<xref ref-type=\"bibr\">1</xref>,<xref ref-type=\"bibr\">2</xref>] and <xref ref-type=\"fig\">Fig. 1</xref>.<fn><p>n\
    </p></fn></p><list list-type=\"order\"><list-item><p>x</p></list-item></list><def-list><def-item><term>t</term><def><p>d</p></def>\
    </def-item></def-list><fig><label>F</label><caption><p>c</p></caption></fig><table-wrap><label>T</label><caption><p>c</p></caption>\
    <table><tr><td colspan=\"2\">a</td></tr><tr><td rowspan=\"2\">b</td><td>c</td></tr></table></table-wrap><disp-formula><label>(1)\
    </label><alternatives><tex-math>\\begin{document}$x$\\end{document}</tex-math><mml:math><mml:msup><mml:mi>x</mml:mi><mml:mn>2\
    </mml:mn></mml:msup></mml:math></alternatives></disp-formula><code>a\n b</code></sec></body><back><ack><p>t</p></ack><app-group><app>\
    <p>p</p></app></app-group><fn-group><fn><p>f</p></fn></fn-group><ref-list><ref><label>1</label><element-citation><person-group><name>\
    <surname>S</surname><given-names>G</given-names></name></person-group><year>1999</year></element-citation></ref></ref-list></back>\
    <sub-article id=\"s\"><front-stub/><body><p>s</p></body></sub-article></article>";

/// Of PubMed and JATS, for either reader.
pub(crate) fn xml(format: Format) -> Vec<Vec<u8>> {
    let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><article><body><p>caf\xe9</p></body></article>".to_vec();
    let set = format!("<pmc-articleset>{ARTICLE}{ARTICLE}</pmc-articleset>");
    let deep = format!("<article><body>{}x{}</body></article>", "<p>".repeat(60), "</p>".repeat(60));
    let page = "<!DOCTYPE html><html><body>502 Bad Gateway</body></html>".to_string();
    let mut samples: Vec<Vec<u8>> = [ARTICLE.to_string(), set, deep, page].map(String::into_bytes).into();
    samples.push(latin);
    if format == Format::PubmedXml {
        samples.extend(std::iter::repeat_n(CITATIONS.as_bytes().to_vec(), 4));
    }
    samples
}

pub(crate) fn csv() -> Vec<Vec<u8>> {
    let third = "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,DESCRIPTION,CGID,ISERROR,TEXT\n\
        1,2,3,2101-01-01,,,\"Discharge summary\",Report,,,\"Name: [**Known lastname 1**]\nLine \"\"two\"\", of [**2101-1-1**]\n\"\n\
        2,2,3,2101-01-01,,,Nursing,Report,,1,\"erroneous\"\n";
    let fourth = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text\r\n10-DS-1,10,20,DS,1,2101-01-01 00:00:00,,\"Name: ___\r\n\r\nHistory\"\r\n";
    let detail = "note_id,subject_id,field_name,field_value,field_ordinal\n10-RR-1,10,exam_name,CHEST,1\n";
    let plain = "id,text,title\na,\"x\ny\",t\nb,z,\n";
    [third, fourth, detail, plain].map(|text| text.as_bytes().to_vec()).into()
}

pub(crate) fn jsonl() -> Vec<Vec<u8>> {
    let lines = [
        r#"{"id": "a", "text": "x \ud83d\ude00 é", "title": "t", "year": 2001, "n": [1, {"b": null}]}"#,
        r#"{"text": "x", "meta": {"pile_set_name": "PubMed Abstracts"}}"#,
        r#"{"text": "x", "meta": "{\"pile_set_name\": \"PubMed Central\"}"}"#,
        r#"{"text": "x", "meta": {"url": "http://a.example", "language": "en"}, "red_pajama_subset": "c4"}"#,
        r#"{"raw_content": "x", "url": "http://a.example", "date_download": "2001-01-01T00:00:00Z", "digest": "sha1:A"}"#,
        r#"{"paper_id": "p", "title": "t", "abstract": [{"text": "a"}], "body_text": [{"section": "S", "text": "b"}]}"#,
        r#"{"corpusid": 7, "content": {"text": "T\nabc", "annotations": {"title": "[{\"start\": 0, \"end\": 1}]", "paragraph": "[{\"start\": 2, \"end\": 5}]"}}}"#,
        r#"{"id": "1", "text": "x", "source": "s2orc", "added": "2001-01-01", "version": "v2"}"#,
    ];
    let mut samples: Vec<Vec<u8>> = lines.iter().map(|line| format!("{line}\n").into_bytes()).collect();
    samples.push(lines.join("\n").into_bytes());
    samples
}
