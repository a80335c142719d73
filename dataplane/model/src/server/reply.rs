//! What the server says: reports, descriptions, rows, ReadyForQuery.

use super::*;

impl Server {
    pub(super) fn report(&mut self, tag: u8, severity: &str, code: &str, message: &str) {
        put(&mut self.unsent, tag, |o| {
            for (field, text) in [(b'S', severity), (b'V', severity), (b'C', code), (b'M', message)] {
                o.push(field);
                string(o, text.as_bytes());
            }
            o.push(0);
        });
        self.flush();
    }

    /// What was said goes out.
    pub fn flush(&mut self) {
        self.out.append(&mut self.unsent);
    }

    /// A notice that nobody asked for.
    pub fn notice(&mut self, message: &str) {
        self.report(b'N', "NOTICE", "00000", message);
    }

    pub(super) fn warning(&mut self, code: &str, message: &str) {
        self.report(b'N', "WARNING", code, message);
    }

    pub fn status_of(&mut self, name: &str, text: &str) {
        put(&mut self.unsent, b'S', |o| {
            string(o, name.as_bytes());
            string(o, text.as_bytes());
        });
    }

    pub(super) fn ready(&mut self) {
        if self.strings_off != self.strings_off_told {
            self.strings_off_told = self.strings_off;
            self.settings.push((
                "standard_conforming_strings",
                if self.strings_off { "off" } else { "on" },
            ));
        }
        for (name, text) in std::mem::take(&mut self.settings) {
            self.status_of(name, text);
        }
        let status = self.status();
        put(&mut self.unsent, b'Z', |o| o.push(status));
        self.flush();
    }

    pub(super) fn simply(&mut self, tag: u8) {
        put(&mut self.unsent, tag, |_| {});
    }

    pub(super) fn complete(&mut self, tag: &Tag) {
        let text = tag.text();
        put(&mut self.unsent, b'C', |o| string(o, text.as_bytes()));
    }

    pub(super) fn row(&mut self, row: &[Option<Vec<u8>>]) {
        let binary = |at: usize| {
            let format = match self.formats[..] {
                [one] => one,
                _ => self.formats.get(at).copied().unwrap_or(0),
            };
            format == 1 && self.kinds_of_columns.get(at) == Some(&23)
        };
        let all: Vec<Option<Vec<u8>>> = row
            .iter()
            .enumerate()
            .map(|(at, v)| match v {
                Some(text) if binary(at) => {
                    let n: i32 = std::str::from_utf8(text)
                        .ok()
                        .and_then(|t| t.parse().ok())
                        .unwrap_or(0);
                    Some(n.to_be_bytes().to_vec())
                }
                other => other.clone(),
            })
            .collect();
        put(&mut self.unsent, b'D', |o| {
            short(o, all.len());
            all.iter().for_each(|v| value(o, v.as_deref()));
        });
    }

    pub(super) fn described(&mut self, columns: Option<Columns>, formats: &[u16]) {
        let Some(columns) = columns else {
            return self.simply(b'n');
        };
        let all = columns.fields();
        put(&mut self.unsent, b'T', |o| {
            short(o, all.len());
            for (at, (name, table, number, kind)) in all.iter().enumerate() {
                string(o, name.as_bytes());
                o.extend_from_slice(&table.to_be_bytes());
                o.extend_from_slice(&number.to_be_bytes());
                o.extend_from_slice(&kind.to_be_bytes());
                o.extend_from_slice(&(if *kind == 23 { 4u16 } else { u16::MAX }).to_be_bytes());
                o.extend_from_slice(&(-1i32).to_be_bytes());
                let format = match formats {
                    [one] => *one,
                    _ => formats.get(at).copied().unwrap_or(0),
                };
                o.extend_from_slice(&format.to_be_bytes());
            }
        });
    }

    pub(super) fn fail(&mut self, error: Error, extended: bool) {
        self.report(
            b'E',
            if error.fatal { "FATAL" } else { "ERROR" },
            error.code,
            error.message,
        );
        if let Some(simple) = self.simple.take() {
            self.units[simple.unit].error = Some(error.code);
        }
        self.abort();
        if error.fatal {
            self.ended = true;
        } else if extended {
            self.skipping = true;
        } else {
            self.ready();
        }
    }
}
