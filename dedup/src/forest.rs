//! Disjoint sets of ordinals in which the root of a set is its smallest member.

/// One `u32` parent an ordinal, 4 bytes. Because the larger root is always linked under the smaller one, the roots depend on
/// the set of edges alone, not on their order; so do [`Forest::links`], which carry a forest from one task to another.
#[derive(Debug)]
pub struct Forest {
    parents: Vec<u32>,
}

impl Forest {
    /// `count` sets of one ordinal each.
    pub fn new(count: u32) -> Self {
        Self { parents: (0..count).collect() }
    }

    /// The smallest ordinal of the set that holds `ordinal`.
    ///
    /// # Panics
    /// `ordinal` is not below the count.
    pub fn root(&mut self, ordinal: u32) -> u32 {
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
    ///
    /// # Panics
    /// One of them is not below the count.
    pub fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b) as usize] = a.min(b);
    }

    /// (root, ordinal) of each ordinal that is not a root, by ordinal. Joining these pairs makes the same sets again.
    pub fn links(mut self) -> impl Iterator<Item = (u32, u32)> {
        let count = self.parents.len() as u32;
        (0..count).map(move |ordinal| (self.root(ordinal), ordinal)).filter(|(root, ordinal)| root != ordinal)
    }

    /// For each ordinal in a set of two or more its root, by ordinal; [`crate::NO_ORDINAL`] for those alone.
    pub fn into_roots(mut self) -> Vec<u32> {
        let count = self.parents.len();
        let mut shared = vec![false; count];
        for ordinal in 0..count as u32 {
            let root = self.root(ordinal);
            self.parents[ordinal as usize] = root;
            if root != ordinal {
                shared[root as usize] = true;
            }
        }
        for (ordinal, parent) in self.parents.iter_mut().enumerate() {
            if *parent == ordinal as u32 && !shared[ordinal] {
                *parent = crate::NO_ORDINAL;
            }
        }
        self.parents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NO_ORDINAL;

    fn check(count: u32, edges: &[(u32, u32)], expected: &[(u32, u32)]) {
        let mut forward = Forest::new(count);
        let mut backward = Forest::new(count);
        for &(a, b) in edges {
            forward.join(a, b);
        }
        for &(a, b) in edges.iter().rev() {
            backward.join(b, a);
        }
        let links: Vec<_> = forward.links().collect();
        assert_eq!(links, expected);
        let mut again = Forest::new(count);
        for &(root, ordinal) in &links {
            again.join(root, ordinal);
        }
        let roots = backward.into_roots();
        assert_eq!(again.into_roots(), roots);
        for (ordinal, &root) in (0u32..).zip(&roots) {
            let linked = expected.iter().find(|link| link.1 == ordinal).map(|link| link.0);
            let is_root = expected.iter().any(|link| link.0 == ordinal);
            assert_eq!(root, linked.unwrap_or(if is_root { ordinal } else { NO_ORDINAL }));
        }
    }

    #[test]
    fn the_root_is_the_smallest_member_in_any_order() {
        check(0, &[], &[]);
        check(3, &[], &[]);
        check(3, &[(1, 1)], &[]);
        check(3, &[(2, 1)], &[(1, 2)]);
        check(4, &[(3, 2), (1, 3), (0, 1)], &[(0, 1), (0, 2), (0, 3)]);
        check(6, &[(5, 4), (2, 3), (3, 5), (4, 2)], &[(2, 3), (2, 4), (2, 5)]);
        check(5, &[(4, 1), (3, 0)], &[(0, 3), (1, 4)]);
    }
}
