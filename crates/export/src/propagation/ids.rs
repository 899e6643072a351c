//! Ids of traces and spans, and the ways in which they are written.

use rand::RngCore as _;

/// The id of a trace.
pub type TraceId = [u8; 16];

/// The id of a span.
pub type SpanId = [u8; 8];

/// A new trace's id.
pub fn new_trace_id() -> TraceId {
    random()
}

/// A new span's id.
pub fn new_span_id() -> SpanId {
    random()
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

/// Appends bytes in hexadecimal digits.
pub(super) fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    for b in bytes {
        text.push(DIGITS[usize::from(b >> 4)]);
        text.push(DIGITS[usize::from(b & 15)]);
    }
}

/// Whether these are hexadecimal digits, at least one.
pub(super) fn is_hex(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit)
}

/// The id that hexadecimal digits say: the last of them, with zeros in front when they are few.
pub(super) fn from_hex<const N: usize>(digits: &[u8]) -> [u8; N] {
    let mut id = [0; N];
    for (place, digit) in digits.iter().rev().take(2 * N).enumerate() {
        let value = char::from(*digit).to_digit(16).unwrap_or(0);
        id[N - 1 - place / 2] |= (value as u8) << (4 * (place % 2));
    }
    id
}

/// How many bytes so many hexadecimal digits are.
pub(super) fn bytes_of(digits: &[u8]) -> usize {
    digits.len().div_ceil(2)
}

/// The last 16 bytes of a decimal number, and how many bytes it has (17 for all longer ones).
pub(super) fn from_decimal(digits: &[u8]) -> Option<(TraceId, usize)> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (mut number, mut longer) = (0_u128, false);
    for digit in digits {
        let (tenfold, over) = number.overflowing_mul(10);
        let (sum, more) = tenfold.overflowing_add(u128::from(digit - b'0'));
        longer |= over || more;
        number = sum;
    }
    let size = match longer {
        true => 17,
        false => 16 - number.leading_zeros() as usize / 8,
    };
    Some((number.to_be_bytes(), size))
}

/// The last 8 of 16 bytes.
pub(super) fn last_half(id: TraceId) -> SpanId {
    (u128::from_be_bytes(id) as u64).to_be_bytes()
}

fn random<const N: usize>() -> [u8; N] {
    let mut id = [0; N];
    rand::rng().fill_bytes(&mut id);
    id
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_ids_are_padded_and_cut_in_front() {
        assert_eq!(from_hex::<2>(b"1"), [0, 1]);
        assert_eq!(from_hex::<2>(b"aBc"), [0x0a, 0xbc]);
        assert_eq!(from_hex::<2>(b"123456"), [0x34, 0x56]);
        assert_eq!((bytes_of(b"abc"), bytes_of(b"ab")), (2, 1));
        assert_eq!(hex(&[0x0f, 0xa0]), "0fa0");
        assert!(is_hex(b"0aF") && !is_hex(b"") && !is_hex(b"0x"));
    }

    #[test]
    fn decimal_ids_may_have_any_length() {
        let (id, size) = from_decimal(b"18446744073709551615").unwrap();
        assert_eq!((last_half(id), size), ([255; 8], 8));
        assert_eq!(from_decimal(b"0").unwrap().1, 0);
        assert_eq!(from_decimal(b"256").unwrap().1, 2);
        let (id, size) = from_decimal(b"340282366920938463463374607431768211457").unwrap();
        assert_eq!((id[15], id[0], size), (1, 0, 17));
        assert_eq!(from_decimal(b"-1"), None);
        assert_eq!(from_decimal(b""), None);
    }
}
