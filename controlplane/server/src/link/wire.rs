//! Envelopes over a Unix stream: whole messages in, whole messages out.
//!
//! Bounds: a message is at most `MESSAGE_BYTES_MAX`; its room grows as its bytes come, so a length alone reserves nothing.

use headgate_plane::envelope::{self, EnvelopeError};
use headgate_plane::{ToControl, ToData};
use std::fmt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

#[derive(Debug)]
pub enum LinkError {
    Io(std::io::Error),
    Envelope(EnvelopeError),
    /// The first message was not Hello, or did not come in time.
    NoHello,
    /// Both sides must be of the same build.
    Version {
        theirs: u32,
        ours: u32,
    },
    /// The data plane reads too slowly for what it has to hear.
    TooSlow,
    /// Some news were missed; a new connection begins with everything.
    Missed,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Io(error) => write!(f, "the link broke: {error}"),
            LinkError::Envelope(error) => error.fmt(f),
            LinkError::NoHello => f.write_str("the data plane did not say Hello"),
            LinkError::Version { theirs, ours } => {
                write!(
                    f,
                    "the data plane speaks link version {theirs}, the control plane {ours}: install both from one release"
                )
            }
            LinkError::TooSlow => f.write_str("the data plane does not read its link"),
            LinkError::Missed => f.write_str("news for the data plane were missed; it connects again"),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<std::io::Error> for LinkError {
    fn from(error: std::io::Error) -> Self {
        LinkError::Io(error)
    }
}

impl From<EnvelopeError> for LinkError {
    fn from(error: EnvelopeError) -> Self {
        LinkError::Envelope(error)
    }
}

/// One message; `None` at a clean end between messages.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<ToControl>, LinkError> {
    let mut head = [0; 4];
    match from.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let bytes = envelope::body_bytes(head)?;
    let mut framed = Vec::with_capacity(4 + bytes.min(64 << 10));
    framed.extend_from_slice(&head);
    let read = from.take(bytes as u64).read_to_end(&mut framed).await?;
    if read < bytes {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    match envelope::decode(&framed)? {
        Some((message, used)) if used == framed.len() => Ok(Some(message)),
        _ => Err(EnvelopeError::Malformed.into()),
    }
}

pub async fn write(to: &mut (impl AsyncWrite + Unpin), message: &ToData) -> Result<(), LinkError> {
    let mut framed = Vec::new();
    envelope::encode(message, &mut framed)?;
    to.write_all(&framed).await?;
    Ok(to.flush().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_plane::SessionId;

    #[tokio::test]
    async fn a_stream_cut_inside_a_message_is_an_error_and_between_messages_an_end() {
        let mut framed = Vec::new();
        envelope::encode(
            &ToControl::SessionClosed {
                session: SessionId(7),
            },
            &mut framed,
        )
        .unwrap();
        for cut in 0..=framed.len() {
            let mut bytes = &framed[..cut];
            match read(&mut bytes).await {
                Ok(None) => assert!(cut < 4, "cut at {cut}"),
                Ok(Some(_)) => assert_eq!(cut, framed.len()),
                Err(LinkError::Io(_)) => assert!((4..framed.len()).contains(&cut), "cut at {cut}"),
                Err(other) => panic!("cut at {cut}: {other}"),
            }
        }
    }

    #[tokio::test]
    async fn a_length_beyond_the_bound_ends_the_link_before_anything_is_read() {
        let mut bytes: &[u8] = &u32::MAX.to_be_bytes();
        assert!(matches!(
            read(&mut bytes).await,
            Err(LinkError::Envelope(EnvelopeError::TooLong { .. }))
        ));
    }
}
