//! Registers: cells that change only as expected, whoever else tries.

use std::thread;

use bytes::Bytes;

use super::{Case, Node, Subject, answer};
use crate::broker::{Cell, REGISTER_SIZE_MAX, Swapped, Undone};

pub(super) const CASES: &[Case] = &[
    ("cells change only as expected", change_as_expected),
    ("cells are listed by the beginning of their names", are_listed),
    ("of eight challengers one at a time wins, and revisions grow", have_one_winner),
    ("a revision is never used twice, also after the cell was away", never_repeat_a_revision),
];

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl Node {
    fn get(&self, name: &str) -> Option<Cell> {
        answer(|done| self.registers().get(name, done)).unwrap()
    }

    fn put(&self, name: &str, revision: Option<u64>, text: &str) -> Swapped {
        answer(|done| self.registers().put_if(name, revision, value(text), done)).unwrap()
    }

    fn delete(&self, name: &str, revision: u64) -> Swapped {
        answer(|done| self.registers().delete_if(name, revision, done)).unwrap()
    }
}

fn change_as_expected(subject: &dyn Subject) {
    let node = Node::up(subject);
    assert_eq!((node.get("a"), node.delete("a", 1)), (None, Swapped::Not(None)));
    assert_eq!(node.put("a", Some(1), "x"), Swapped::Not(None));
    let Swapped::Done(first) = node.put("a", None, "one") else { panic!("it is not there") };
    let cell = Some(Cell { revision: first, value: value("one") });
    assert_eq!((node.get("a"), node.put("a", None, "two")), (cell.clone(), Swapped::Not(cell.clone())));
    assert_eq!(node.put("a", Some(first + 1), "two"), Swapped::Not(cell));
    let Swapped::Done(second) = node.put("a", Some(first), "") else { panic!("it has this revision") };
    assert!(second > first);
    assert_eq!(node.get("a"), Some(Cell { revision: second, value: Bytes::new() }));
    assert!(matches!(node.delete("a", first), Swapped::Not(Some(_))));
    assert_eq!((node.delete("a", second), node.get("a")), (Swapped::Done(second), None));

    let largest = "x".repeat(REGISTER_SIZE_MAX);
    assert!(matches!(node.put("large", None, &largest), Swapped::Done(_)));
    let too_large = Bytes::from(vec![0; REGISTER_SIZE_MAX + 1]);
    let refused = answer(|done| node.registers().put_if("larger", None, too_large, done));
    assert!(matches!(refused, Err(Undone::Refused(_))), "{refused:?}");
}

fn are_listed(subject: &dyn Subject) {
    let node = Node::up(subject);
    let list = |prefix: &str| answer(|done| node.registers().list(prefix, done)).unwrap();
    for name in (0..100).map(|number| format!("w/1/{number:02}")).chain(["w/".into(), "w/2/ü".into(), "v".into()]) {
        assert!(matches!(node.put(&name, None, &name), Swapped::Done(_)));
    }
    let all = list("w/1/");
    assert!(all.iter().map(|(name, _)| name.clone()).eq((0..100).map(|number| format!("w/1/{number:02}"))));
    assert!(all.iter().all(|(name, cell)| cell.value == name.as_bytes()));
    assert_eq!((list("w/").len(), list("no such").len(), list("w/2/").len()), (102, 0, 1));
    let revision = list("v")[0].1.revision;
    assert_eq!(node.delete("v", revision), Swapped::Done(revision));
    assert_eq!(list("v").len(), 0);
}

fn have_one_winner(subject: &dyn Subject) {
    const CHALLENGERS: usize = 8;
    const WINS: u64 = 10;
    let challengers: Vec<_> = (0..CHALLENGERS).map(|_| Node::up(subject)).collect();
    let won = thread::scope(|scope| {
        let one = |node: Node| {
            let (mut known, mut won) = (None::<Cell>, Vec::new());
            while won.len() < WINS as usize {
                let count = known.as_ref().map_or(0, |cell| str::from_utf8(&cell.value).unwrap().parse().unwrap());
                let next = (count + 1_u64).to_string();
                match node.put("fight", known.as_ref().map(|cell| cell.revision), &next) {
                    Swapped::Done(revision) => {
                        won.push((count + 1, revision));
                        known = Some(Cell { revision, value: value(&next) });
                    }
                    Swapped::Not(found) => known = found,
                }
            }
            won
        };
        let threads: Vec<_> = challengers.into_iter().map(|node| scope.spawn(move || one(node))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut won = won;
    won.sort_unstable();
    assert!(won.iter().map(|(count, _)| *count).eq(1..=CHALLENGERS as u64 * WINS), "nobody's change is lost");
    assert!(won.is_sorted_by(|(_, one), (_, other)| one < other), "revisions grow");
}

fn never_repeat_a_revision(subject: &dyn Subject) {
    let node = Node::up(subject);
    let mut last = 0;
    for round in 0..20 {
        let Swapped::Done(revision) = node.put("again", None, "m") else { panic!("it is not there") };
        assert!(revision > last, "round {round}");
        last = revision;
        assert_eq!(node.delete("again", revision), Swapped::Done(revision));
    }
}
