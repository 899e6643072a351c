//! Random numbers for request ids and for jitter: fast, per thread, not for secrets.

use std::cell::Cell;

/// The next number of this thread's generator (xoroshiro128+, seeded by the operating system's).
fn next() -> u64 {
    thread_local! {
        static STATE: Cell<(u64, u64)> = Cell::new((rand::random::<u64>() | 1, rand::random()));
    }
    STATE.with(|cell| {
        let (a, b) = cell.get();
        let mixed = a ^ b;
        cell.set((
            a.rotate_left(24) ^ mixed ^ (mixed << 16),
            mixed.rotate_left(37),
        ));
        a.wrapping_add(b)
    })
}

/// A request id: 32 lower-case hexadecimal digits, as nginx's `$request_id`.
pub(crate) fn request_id() -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut id = [0; 32];
    let bits = (u128::from(next()) << 64 | u128::from(next())).to_be_bytes();
    for (pair, byte) in id.chunks_exact_mut(2).zip(bits) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    id
}

/// A number from 0 to 1.
pub(crate) fn unit() -> f64 {
    // 53 bits are what a double holds.
    (next() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal_and_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| request_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(
            ids.iter()
                .flatten()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        );
    }

    #[test]
    fn jitter_stays_in_its_range_and_spreads() {
        let mean = (0..10_000)
            .map(|_| unit())
            .inspect(|u| assert!((0.0..1.0).contains(u)))
            .sum::<f64>()
            / 10_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
