//! Which of several servers has a topic: the one with the greatest weight there. Nodes have to agree on it whatever their version, so this
//! never changes.

/// The share of a server, by its address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight(u64);

impl Weight {
    pub(super) fn of(address: &str) -> Self {
        Weight(fnv(0xcbf2_9ce4_8422_2325, address.as_bytes()))
    }

    /// How much it weighs at a topic.
    pub(super) fn at(self, topic: &str) -> u64 {
        // The bytes that came last would decide too much: SplitMix64 spreads them.
        let mut z = fnv(self.0, topic.as_bytes());
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn fnv(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heaviest<'a>(servers: &[&'a str], topic: &str) -> &'a str {
        servers.iter().max_by_key(|server| Weight::of(server).at(topic)).unwrap()
    }

    #[test]
    fn servers_have_even_shares_and_only_those_of_a_new_one_move() {
        let three = ["10.0.0.7:6379", "10.0.0.8:6379", "10.0.0.9:6379"];
        let four = ["10.0.0.6:6379", three[2], three[0], three[1]];
        let mut shares = [0; 3];
        let mut moved = 0;
        for number in 0..9_000 {
            let topic = format!("room:{number}");
            let before = heaviest(&three, &topic);
            shares[three.iter().position(|server| *server == before).unwrap()] += 1;
            let after = heaviest(&four, &topic);
            assert!(after == before || after == four[0], "{topic}");
            moved += usize::from(after != before);
        }
        assert!(shares.iter().all(|share| (2_800..3_200).contains(share)), "{shares:?}");
        assert!((2_100..2_400).contains(&moved), "{moved}");
        // Other versions say the same.
        assert_eq!(
            (heaviest(&three, "lobby"), Weight::of("a:6379").at("room:1")),
            ("10.0.0.8:6379", 13_701_629_923_754_693_881)
        );
    }
}
