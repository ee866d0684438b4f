//! Disjoint sets of ordinals in which the root of a set is its smallest member.

/// One `u32` parent an ordinal. Because the larger root is always linked under the smaller one, the roots depend on the
/// set of edges alone, not on their order.
pub(crate) struct UnionFind {
    parents: Vec<u32>,
}

impl UnionFind {
    /// `count` sets of one ordinal each.
    pub(crate) fn new(count: u32) -> Self {
        Self { parents: (0..count).collect() }
    }

    /// The smallest ordinal of the set that holds `ordinal`.
    pub(crate) fn root(&mut self, ordinal: u32) -> u32 {
        let mut at = ordinal;
        while self.parents[at as usize] != at {
            // Path halving: every other link skips one level.
            let grandparent = self.parents[self.parents[at as usize] as usize];
            self.parents[at as usize] = grandparent;
            at = grandparent;
        }
        at
    }

    /// Joins the sets of two ordinals.
    pub(crate) fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b) as usize] = a.min(b);
    }

    /// All ordinals that are in a set of two or more, as (root, ordinal), ascending.
    pub(crate) fn clustered(&mut self) -> Vec<(u32, u32)> {
        let mut links = Vec::new();
        let count = self.parents.len() as u32;
        for ordinal in 0..count {
            let root = self.root(ordinal);
            if root != ordinal {
                links.push((root, ordinal));
            }
        }
        links.sort_unstable();
        let roots: Vec<(u32, u32)> = links.chunk_by(|a, b| a.0 == b.0).map(|members| (members[0].0, members[0].0)).collect();
        links.extend(roots);
        links.sort_unstable();
        links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(count: u32, edges: &[(u32, u32)], expected: &[(u32, u32)]) {
        let mut forward = UnionFind::new(count);
        let mut backward = UnionFind::new(count);
        for &(a, b) in edges {
            forward.join(a, b);
        }
        for &(a, b) in edges.iter().rev() {
            backward.join(b, a);
        }
        assert_eq!(forward.clustered(), expected);
        assert_eq!(backward.clustered(), expected);
    }

    #[test]
    fn the_root_is_the_smallest_member_in_any_order() {
        check(0, &[], &[]);
        check(3, &[], &[]);
        check(3, &[(1, 1)], &[]);
        check(3, &[(2, 1)], &[(1, 1), (1, 2)]);
        check(4, &[(3, 2), (1, 3), (0, 1)], &[(0, 0), (0, 1), (0, 2), (0, 3)]);
        check(6, &[(5, 4), (2, 3), (3, 5), (4, 2)], &[(2, 2), (2, 3), (2, 4), (2, 5)]);
        check(5, &[(4, 1), (3, 0)], &[(0, 0), (0, 3), (1, 1), (1, 4)]);
    }
}
