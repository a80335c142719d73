//! What a new recorder finds: sessions in progress, from the last snapshot of them and the chunks after it.

use crate::RecorderError;
use crate::pack::OWN;
use crate::store::Store;
use headgate_plane::SessionId;
use headgate_recording::chunk::Chunk;
use headgate_recording::rows::{OpenSessions, from_bytes};
use headgate_recording::sessions::{Piece, SessionFacts, Sessions};
use headgate_recording::{EventView, keys};

fn unfit(number: u64, what: impl std::fmt::Display) -> RecorderError {
    RecorderError::Unfit {
        what: format!("chunk {number}: {what}"),
    }
}

fn facts(store: &Store, id: SessionId) -> Result<(SessionFacts, u128), RecorderError> {
    Ok(store.session(id)?.map_or((SessionFacts::default(), OWN), |row| {
        (SessionFacts::new(&row.who, &row.target), row.generation)
    }))
}

/// Sessions in progress before chunk `next`.
pub fn sessions(store: &Store, next: u64) -> Result<Sessions, RecorderError> {
    let snapshot = match store.get(keys::META, keys::OPEN)? {
        None => OpenSessions::default(),
        Some(bytes) => from_bytes::<OpenSessions>(&bytes).ok_or_else(|| RecorderError::Unfit {
            what: "the list of open sessions cannot be read".to_owned(),
        })?,
    };
    let mut sessions = Sessions::default();
    for open in &snapshot.sessions {
        sessions.restore(open, facts(store, open.session)?.0);
    }
    let unpack = |bytes: &[u8], len: usize| zstd::bulk::decompress(bytes, len).ok();
    let mut record = Vec::new();
    for number in snapshot.before..next {
        let value = store
            .get(keys::CHUNK, &keys::chunk(number))?
            .ok_or_else(|| unfit(number, "is missing"))?;
        let chunk = Chunk::read(&value).map_err(|e| unfit(number, e))?;
        let bodies = chunk.bodies(&unpack).map_err(|e| unfit(number, e))?;
        let replies = store.get(keys::RESP, &keys::chunk(number))?;
        let replies = chunk
            .replies(replies.as_deref(), &unpack)
            .map_err(|e| unfit(number, e))?;
        for row in chunk.rows(&unpack).map_err(|e| unfit(number, e))?.rows {
            row.record(&bodies, &replies, &mut record)
                .map_err(|e| unfit(number, e))?;
            let view = EventView::read(&record).map_err(|e| unfit(number, e))?;
            let generation = match sessions.get(view.session) {
                Some(live) => live.generation,
                None => facts(store, view.session)?.1,
            };
            let (head, reply) = record.split_at(record.len() - row.reply_len);
            sessions.apply(generation, &Piece::of_view(&view, head, reply));
        }
        sessions.close();
    }
    Ok(sessions)
}
