//! LEB128 numbers, as postcard writes them and as columns hold them.

pub(crate) fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push((n & 0x7f) as u8);
}

/// Bytes that `n` takes.
#[inline]
pub(crate) fn length(n: u64) -> usize {
    let bits = 64 - (n | 1).leading_zeros();
    // By seven, rounded up, for what occurs: 1 to 64.
    (bits as usize * 37 + 222) >> 8
}

/// Takes a number from the front. Longer forms than needed are read, too.
pub(crate) fn get(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(first & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        n |= bits << shift;
        if first & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

/// The same, but a longer form than needed is refused.
#[inline]
pub(crate) fn get_shortest(bytes: &mut &[u8]) -> Option<u64> {
    if let Some((first, rest)) = bytes.split_first()
        && *first < 0x80
    {
        *bytes = rest;
        return Some(u64::from(*first));
    }
    let before = bytes.len();
    let n = get(bytes)?;
    (before - bytes.len() == length(n)).then_some(n)
}

pub(crate) fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

pub(crate) fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_at_their_edges() {
        for n in [
            0,
            1,
            127,
            128,
            300,
            (1 << 56) - 1,
            1 << 56,
            u64::MAX / 2,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            put(&mut out, n);
            assert_eq!(out.len(), length(n));
            let mut rest = out.as_slice();
            assert_eq!(get(&mut rest), Some(n));
            assert!(rest.is_empty());
            assert_eq!(get_shortest(&mut out.as_slice()), Some(n));
            assert_eq!(get(&mut &out[..out.len() - 1]), None);
            assert_eq!(unzigzag(n) as u64, (unzigzag(zigzag(unzigzag(n)))) as u64);
        }
        assert_eq!(get(&mut [0xffu8; 11].as_slice()), None);
        assert_eq!(get(&mut [0x81, 0].as_slice()), Some(1));
        assert_eq!(get_shortest(&mut [0x81, 0].as_slice()), None);
    }
}
