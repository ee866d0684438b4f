//! A table as lines of text: one a row, cells in their columns, ` | ` between them.
//!
//! Both table models of JATS are read, that of XHTML (`tr`, `td`) and that of OASIS (`row`, `entry`).

use crate::names::Name;
use crate::options::ReadOptions;
use crate::prose::Prose;
use crate::xml::Element;

const BETWEEN_CELLS: &str = " | ";
/// Columns up to which spanned cells are filled in. Wider tables exist; what fills them has to be written in them.
const FILLED_COLUMNS: usize = 64;

/// The rows with text, in the order of the file. A cell that spans several columns or rows stands in the first of them, the
/// others are empty, so that a column stays a column.
pub(crate) fn linearized(table: Element<'_>, options: &ReadOptions) -> String {
    let mut grid = Grid { options, waiting: Vec::new(), lines: Vec::new() };
    grid.rows(table);
    grid.lines.join("\n")
}

struct Grid<'o> {
    options: &'o ReadOptions,
    /// For each of the first columns, how many rows a cell from above still covers.
    waiting: Vec<u32>,
    lines: Vec<String>,
}

impl Grid<'_> {
    fn rows(&mut self, part: Element<'_>) {
        for child in part.elements() {
            match child.name() {
                Name::Tr | Name::Row => self.row(child),
                // The groups of rows and, in OASIS, the columns' description, which has none.
                Name::Thead | Name::Tbody | Name::Tfoot | Name::Other => self.rows(child),
                _ => {}
            }
        }
    }

    fn row(&mut self, row: Element<'_>) {
        let mut cells: Vec<String> = Vec::new();
        for cell in row.elements().filter(|cell| matches!(cell.name(), Name::Td | Name::Th | Name::Entry)) {
            self.skip_covered(&mut cells);
            let begin = cells.len();
            cells.push(Prose::line(cell, self.options));
            let columns = span(cell, "colspan").unwrap_or(1);
            while cells.len() < FILLED_COLUMNS && cells.len() - begin < columns {
                cells.push(String::new());
            }
            let more = span(cell, "morerows").or_else(|| span(cell, "rowspan").map(|rows| rows.saturating_sub(1)));
            self.cover(begin, cells.len(), more.unwrap_or(0));
        }
        self.skip_covered(&mut cells);
        let used = cells.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
        if used > 0 {
            self.lines.push(cells[..used].join(BETWEEN_CELLS));
        }
    }

    /// Leaves the columns empty that cells from above stand in.
    fn skip_covered(&mut self, cells: &mut Vec<String>) {
        while let Some(rows) = self.waiting.get_mut(cells.len()).filter(|rows| **rows > 0) {
            *rows -= 1;
            cells.push(String::new());
        }
    }

    fn cover(&mut self, begin: usize, end: usize, rows: usize) {
        let end = end.min(FILLED_COLUMNS);
        if rows == 0 || begin >= end {
            return;
        }
        if self.waiting.len() < end {
            self.waiting.resize(end, 0);
        }
        self.waiting[begin..end].fill(u32::try_from(rows).unwrap_or(u32::MAX));
    }
}

fn span(cell: Element<'_>, attribute: &str) -> Option<usize> {
    cell.attribute(attribute)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Limits;
    use crate::xml::Tree;

    fn check(rows: &str, expected: &[&str]) {
        let xml = format!("<table>{rows}</table>");
        let tree = Tree::parse(&xml, &Limits::default()).unwrap();
        let found = linearized(tree.root(), &ReadOptions::default());
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{rows}");
    }

    #[test]
    fn rows_and_cells() {
        check(
            "<thead><tr><th>Drug</th><th>Dose</th></tr></thead><tbody><tr><td>a</td><td>5\n mg</td></tr></tbody>",
            &["Drug | Dose", "a | 5 mg"],
        );
        check("<tr><td/><td>x</td><td/></tr><tr><td/></tr>", &[" | x"]);
        check("<tr><td><p>a</p><p>b</p></td><td>c<xref>*</xref></td></tr>", &["a b | c*"]);
    }

    #[test]
    fn spans_keep_the_columns() {
        check("<tr><td rowspan='2'>a</td><td>b</td></tr><tr><td>c</td></tr><tr><td>d</td></tr>", &["a | b", " | c", "d"]);
        check("<tr><td colspan='2'>a</td><td>b</td></tr>", &["a |  | b"]);
        check("<tr><td colspan='2' rowspan='2'>a</td><td>b</td></tr><tr><td>c</td></tr>", &["a |  | b", " |  | c"]);
        check(
            "<tgroup><colspec/><tbody><row><entry morerows='1'>a</entry><entry>b</entry></row><row><entry>c</entry></row></tbody></tgroup>",
            &["a | b", " | c"],
        );
        check("<tr><td rowspan='0'>a</td><td colspan='x'>b</td></tr>", &["a | b"]);
    }

    #[test]
    fn spans_are_bounded() {
        let row = "<tr><td colspan='4000000000' rowspan='4000000000'>a</td><td>b</td></tr>";
        let xml = format!("<table>{}</table>", row.repeat(3));
        let tree = Tree::parse(&xml, &Limits::default()).unwrap();
        let found = linearized(tree.root(), &ReadOptions::default());
        assert_eq!(found.lines().count(), 3);
        assert!(found.len() < 3 * 70 * BETWEEN_CELLS.len(), "{}", found.len());
    }
}
