//! Streams that do not belong to their shares; the order itself is tested with [`crate::order`].

use std::io;

use super::{DomainOrder, MAX_SOURCE_QUOTA, SpreadError};
use crate::RunPlace;
use crate::draw::Draw;
use crate::mixture::SourceShare;
use crate::order::Run;

fn share(supply: u64, quota: u64) -> SourceShare {
    let (full_epochs, remainder) = (quota / supply, quota % supply);
    SourceShare { source: "a".into(), domain: 0, supply, quota, full_epochs, remainder }
}

fn draw(epoch: u32, tokens: u32) -> Draw {
    Draw { epoch, hash: 0, run: Run { object: 0, row: 0, tokens, key: 0, source: 0, place: RunPlace::default() } }
}

/// Documents in order, or what stopped them.
fn check(share: SourceShare, draws: Vec<Draw>, expected: Result<&[(u32, u32)], &str>) {
    check_stream(share, draws.into_iter().map(Ok).collect(), expected);
}

fn check_stream(share: SourceShare, draws: Vec<io::Result<Draw>>, expected: Result<&[(u32, u32)], &str>) {
    let order = DomainOrder::new(vec![(share, draws.into_iter())]);
    let found: Result<Vec<(u32, u32)>, SpreadError> =
        order.and_then(|order| order.map(|placed| placed.map(|placed| (placed.epoch, placed.take))).collect());
    assert_eq!(found.map_err(|e| e.to_string()).as_deref().map_err(String::as_str), expected);
}

#[test]
fn passes_follow_each_other_until_the_quota() {
    check(share(10, 10), vec![draw(0, 4), draw(0, 6)], Ok(&[(0, 4), (0, 6)]));
    check(
        share(10, 23),
        vec![draw(0, 10), draw(1, 10), draw(2, 2), draw(2, 5), draw(2, 3)],
        Ok(&[(0, 10), (1, 10), (2, 2), (2, 1)]),
    );
    check(share(10, 3), vec![draw(0, 10)], Ok(&[(0, 3)]));
}

#[test]
fn streams_that_do_not_give_the_supply_are_errors() {
    let counted = |found: u64| format!("order: source a: {found} tokens in its runs, mixture planned with 10; plan again");
    check(share(10, 10), vec![draw(0, 4)], Err(&counted(4)));
    check(share(10, 10), vec![draw(0, 4), draw(0, 7)], Err(&counted(11)));
    check(share(10, 10), vec![draw(0, 10), draw(0, 3)], Err(&counted(13)));
    check(share(10, 10), vec![draw(0, 10), draw(1, 10)], Err(&counted(20)));
    check(share(10, 15), vec![draw(0, 9), draw(1, 10)], Err(&counted(9)));
    check(share(10, 15), vec![draw(0, 10), draw(2, 10)], Err(&counted(10)));
    check(share(10, 15), vec![draw(0, 10), draw(1, 4)], Err(&counted(4)));
    check(share(10, 5), vec![], Err(&counted(0)));
    check_stream(share(10, 5), vec![Err(io::Error::other("gone"))], Err("order: reading sorted documents"));
}

#[test]
fn a_quota_beyond_the_largest_is_refused() {
    let supply = MAX_SOURCE_QUOTA + 1;
    check(share(supply, supply), vec![], Err("order: source a: quota 4611686018427387905 is not 1 passes and 0 tokens"));
}
