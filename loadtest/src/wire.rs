//! The few messages of PostgreSQL's protocol 3.0 that load needs, as bytes.
//!
//! Spec: PostgreSQL 18, Message Formats. Lengths are of our own texts, which are short; a frame that comes in is bounded by
//! [`FRAME_BYTES_MAX`].

pub const FRAME_BYTES_MAX: usize = 1 << 20;
pub const SSL_REQUEST: u32 = 80_877_103;
pub const GSSENC_REQUEST: u32 = 80_877_104;
pub const PROTOCOL_3_0: u32 = 3 << 16;

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// A message with its tag; `body` writes what comes behind the length.
pub fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    untagged(out, body);
}

/// The same without a tag: the first packet of a client.
pub fn untagged(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = length(out.len() - start);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&len);
    }
}

pub fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

pub fn value(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&length(value.len()));
    out.extend_from_slice(value);
}

/// What stands at the front of a receive buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum NextFrame<'a> {
    Part,
    /// Tag, body, and the whole message's length.
    Message(u8, &'a [u8], usize),
    TooLong,
}

pub fn next_frame(data: &[u8]) -> NextFrame<'_> {
    let Some((tag, rest)) = data.split_first() else {
        return NextFrame::Part;
    };
    let Some(len) = rest.first_chunk::<4>() else {
        return NextFrame::Part;
    };
    let len = u32::from_be_bytes(*len) as usize;
    if !(4..=FRAME_BYTES_MAX).contains(&len) {
        return NextFrame::TooLong;
    }
    match rest.get(4..len) {
        Some(body) => NextFrame::Message(*tag, body, len + 1),
        None => NextFrame::Part,
    }
}

/// Its code, its body behind it, and the whole length.
pub type FirstPacket<'a> = (u32, &'a [u8], usize);

/// The first packet of a client, which has no tag. `Err`: no client's.
pub fn first_packet(data: &[u8]) -> Option<Result<FirstPacket<'_>, ()>> {
    let len = u32::from_be_bytes(*data.first_chunk::<4>()?) as usize;
    if !(8..=10_000).contains(&len) {
        return Some(Err(()));
    }
    let packet = data.get(4..len)?;
    let (code, body) = packet.split_first_chunk::<4>()?;
    Some(Ok((u32::from_be_bytes(*code), body, len)))
}

/// Up to the zero, and what is behind it.
pub fn zero_ended(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(0, data)?;
    Some((data.get(..at)?, data.get(at + 1..)?))
}

/// A field of an ErrorResponse.
pub fn report_field(body: &[u8], wanted: u8) -> String {
    let mut rest = body;
    while let Some((kind, behind)) = rest.split_first() {
        let Some((text, behind)) = zero_ended(behind) else {
            break;
        };
        if *kind == wanted {
            return String::from_utf8_lossy(text).into_owned();
        }
        rest = behind;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was_written_and_a_part_waits() {
        let mut out = Vec::new();
        message(&mut out, b'Q', |b| text(b, b"SELECT 1"));
        assert_eq!(next_frame(&out), NextFrame::Message(b'Q', b"SELECT 1\0", 14));
        for cut in 0..out.len() {
            assert_eq!(next_frame(&out[..cut]), NextFrame::Part, "{cut}");
        }
        assert_eq!(next_frame(b"Q\xff\xff\xff\xff"), NextFrame::TooLong);
        assert_eq!(next_frame(b"Q\0\0\0\x03"), NextFrame::TooLong);
    }

    #[test]
    fn the_first_packet_has_its_own_form() {
        let mut out = Vec::new();
        untagged(&mut out, |b| b.extend_from_slice(&SSL_REQUEST.to_be_bytes()));
        assert_eq!(first_packet(&out), Some(Ok((SSL_REQUEST, &b""[..], 8))));
        assert_eq!(first_packet(&out[..7]), None);
        assert_eq!(first_packet(b"GET / HT"), Some(Err(())));
    }
}
