//! Figures of several rounds: their middle and their spread, and ratios of two runs of one round.

use std::collections::BTreeMap;

/// The middle one, the smallest and the largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// `None` without any value. Of an even number of values the median is between the two in the middle.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
    Some(Spread { median, min, max })
}

/// One ratio for each round that has both: the machine's speed drifts from round to round, less within one.
pub(crate) fn ratios(values: &BTreeMap<u32, f64>, to: &BTreeMap<u32, f64>) -> Vec<f64> {
    let both = values.iter().filter_map(|(round, value)| Some((value, *to.get(round)?)));
    both.filter(|(_, to)| *to > 0.0).map(|(value, to)| value / to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        for (values, expected) in [
            (vec![], None),
            (vec![2.0], Some((2.0, 2.0, 2.0))),
            (vec![3.0, 1.0], Some((2.0, 1.0, 3.0))),
            (vec![3.0, 1.0, 9.0], Some((3.0, 1.0, 9.0))),
        ] {
            let expected = expected.map(|(median, min, max)| Spread { median, min, max });
            assert_eq!(spread(values.clone()), expected, "{values:?}");
        }
    }

    #[test]
    fn ratios_are_of_one_round() {
        let rounds = |values: &[(u32, f64)]| values.iter().copied().collect::<BTreeMap<_, _>>();
        for (values, to, expected) in [
            (rounds(&[(1, 2.0), (2, 9.0)]), rounds(&[(1, 4.0), (2, 3.0)]), vec![0.5, 3.0]),
            (rounds(&[(1, 2.0), (3, 9.0)]), rounds(&[(1, 4.0), (2, 3.0)]), vec![0.5]),
            (rounds(&[(1, 2.0)]), rounds(&[(1, 0.0)]), vec![]),
        ] {
            assert_eq!(ratios(&values, &to), expected);
        }
    }
}
