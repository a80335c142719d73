//! ErrorResponse and NoticeResponse of our own.
//!
//! Invariant: what is written is a message of its kind whatever the texts hold: a zero in a text cuts it there, a text too long
//! is cut at TEXT_BYTES_MAX. So these two cannot fail, and a denial always has its words.
//! Spec: "Error and Notice Message Fields".

use crate::write::message;
use headgate_wire::write::put_cstr;

/// The most of one text that is sent.
pub const TEXT_BYTES_MAX: usize = 16 << 10;

/// An error or notice of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// `ERROR`, `FATAL`, `NOTICE`, `WARNING` …
    pub severity: &'static str,
    /// SQLSTATE, five letters.
    pub code: &'a str,
    /// What happened.
    pub message: &'a str,
    /// More of it.
    pub detail: Option<&'a str>,
    /// What to do.
    pub hint: Option<&'a str>,
    /// In characters, counted from 1.
    pub position: Option<u32>,
    /// `W`: the context.
    pub context: Option<&'a str>,
}

impl<'a> Report<'a> {
    /// The statement failed.
    pub fn error(code: &'a str, message: &'a str) -> Self {
        Self::new("ERROR", code, message)
    }

    /// The session ends.
    pub fn fatal(code: &'a str, message: &'a str) -> Self {
        Self::new("FATAL", code, message)
    }

    /// Something to know.
    pub fn notice(message: &'a str) -> Self {
        Self::new("NOTICE", "00000", message)
    }

    /// Of any severity.
    pub fn new(severity: &'static str, code: &'a str, message: &'a str) -> Self {
        Report {
            severity,
            code,
            message,
            detail: None,
            hint: None,
            position: None,
            context: None,
        }
    }

    /// With more of it.
    #[must_use]
    pub fn detail(mut self, detail: &'a str) -> Self {
        self.detail = Some(detail);
        self
    }

    /// With what to do.
    #[must_use]
    pub fn hint(mut self, hint: &'a str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// With the place in the text, in characters from 1.
    #[must_use]
    pub fn position(mut self, position: u32) -> Self {
        self.position = Some(position);
        self
    }

    /// With where it happened.
    #[must_use]
    pub fn context(mut self, context: &'a str) -> Self {
        self.context = Some(context);
        self
    }

    /// Appends an ErrorResponse.
    pub fn write_error(&self, out: &mut Vec<u8>) {
        self.write(b'E', out);
    }

    /// Appends a NoticeResponse.
    pub fn write_notice(&self, out: &mut Vec<u8>) {
        self.write(b'N', out);
    }

    fn write(&self, tag: u8, out: &mut Vec<u8>) {
        let position = self.position.map(|position| position.to_string());
        let fields = [
            (b'S', Some(self.severity)),
            (b'V', Some(self.severity)),
            (b'C', Some(self.code)),
            (b'M', Some(self.message)),
            (b'D', self.detail),
            (b'H', self.hint),
            (b'P', position.as_deref()),
            (b'W', self.context),
        ];
        let written = message(out, tag, |out| {
            for (code, text) in fields {
                if let Some(text) = text {
                    out.push(code);
                    put_cstr(out, sendable(text).as_bytes())?;
                }
            }
            out.push(0);
            Ok(())
        });
        assert!(
            written.is_ok(),
            "a report's texts are cut so that they can always be written"
        );
    }
}

/// The part of `text` before a zero and within the bound, cut between characters.
fn sendable(text: &str) -> &str {
    let text = text.split('\0').next().unwrap_or("");
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let end = (0..=TEXT_BYTES_MAX)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::frame;

    fn fields(bytes: &[u8]) -> Vec<(u8, String)> {
        let (header, body) = frame::split(bytes, 1 << 20).unwrap().unwrap();
        assert_eq!(header.len, bytes.len());
        match Backend::decode(header.tag, body).unwrap() {
            Backend::ErrorResponse(fields) | Backend::NoticeResponse(fields) => fields
                .map(|(code, text)| (code, String::from_utf8(text.to_vec()).unwrap()))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_denial_reads_back_with_every_field() {
        let mut out = Vec::new();
        Report::error("42501", "no")
            .detail("why")
            .hint("ask")
            .position(7)
            .context("where")
            .write_error(&mut out);
        let texts: Vec<(u8, String)> = [
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', "42501"),
            (b'M', "no"),
            (b'D', "why"),
            (b'H', "ask"),
            (b'P', "7"),
            (b'W', "where"),
        ]
        .map(|(code, text)| (code, text.to_owned()))
        .to_vec();
        assert_eq!(fields(&out), texts);
    }

    #[test]
    fn a_zero_or_a_flood_in_a_text_cannot_break_the_message() {
        let flood = "é".repeat(TEXT_BYTES_MAX);
        let mut out = Vec::new();
        Report::notice("before\0Mafter")
            .detail(&flood)
            .write_notice(&mut out);
        let fields = fields(&out);
        assert_eq!(fields[3], (b'M', "before".to_owned()));
        assert_eq!(fields[4].1.len(), TEXT_BYTES_MAX);
    }
}
