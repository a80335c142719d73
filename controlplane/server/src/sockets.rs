//! Unix sockets that only this user can open.

use crate::error::ControlPlaneError;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use tokio::net::{UnixListener, UnixStream};

/// The runtime directory, mode 0700 when made here. One that others can write in is refused: they could put a socket of
/// theirs where ours is looked for.
pub fn runtime_dir(dir: &Path) -> Result<(), ControlPlaneError> {
    let wrong = |why: String| ControlPlaneError::Runtime {
        dir: dir.to_owned(),
        why,
    };
    if !dir.exists() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| wrong(e.to_string()))?;
    }
    let meta = std::fs::metadata(dir).map_err(|e| wrong(e.to_string()))?;
    if !meta.is_dir() {
        return Err(wrong("it is not a directory".into()));
    }
    let mode = meta.permissions().mode();
    if mode & 0o022 != 0 {
        return Err(wrong(format!(
            "others may write in it (mode {:o}): chmod go-w {}",
            mode & 0o7777,
            dir.display()
        )));
    }
    if meta.uid() != own_uid() && own_uid() != 0 {
        return Err(wrong(format!(
            "it belongs to user {}, not to {}",
            meta.uid(),
            own_uid()
        )));
    }
    Ok(())
}

/// Binds in place of what an earlier run left; mode 0600. A socket that somebody answers is another control plane.
pub fn bind_private(path: &Path) -> Result<UnixListener, ControlPlaneError> {
    let wrong = |why: String| ControlPlaneError::Socket {
        path: path.to_owned(),
        why,
    };
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(wrong("something that is no socket is there".into()));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(wrong("another control plane answers there; stop it first".into()));
        }
        std::fs::remove_file(path).map_err(|e| wrong(e.to_string()))?;
    }
    // Bound under another name, closed to others, then moved: nobody finds it open in between.
    let fresh = path.with_extension(format!("new.{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(|e| wrong(e.to_string()))?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| wrong(e.to_string()))?;
    std::fs::rename(&fresh, path).map_err(|e| wrong(e.to_string()))?;
    Ok(listener)
}

/// Whether the other end is this user or root. The mode of the socket says so, too; this says it again.
pub fn peer_is_us(stream: &UnixStream) -> bool {
    peer_uid(stream).is_some_and(|uid| uid == own_uid() || uid == 0)
}

pub fn peer_uid(stream: &UnixStream) -> Option<u32> {
    stream.peer_cred().ok().map(|cred| cred.uid())
}

/// The owner of our own process, as the kernel shows it.
pub fn own_uid() -> u32 {
    // `/proc/self` belongs to the effective user. Without it nobody is us but root.
    std::fs::metadata("/proc/self").map_or(0, |meta| meta.uid())
}

/// The name of a user, from `/etc/passwd`; the number where it has none.
pub fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|line| {
        line.split(':')
            .nth(2)
            .is_some_and(|field| field.parse() == Ok(uid))
    });
    line.and_then(|line| line.split(':').next())
        .map_or_else(|| uid.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_and_replaces_a_dead_one_but_not_a_living_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link.sock");
        let first = bind_private(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(matches!(
            bind_private(&path),
            Err(ControlPlaneError::Socket { .. })
        ));
        drop(first);
        let _second = bind_private(&path).unwrap();
        let stream = UnixStream::connect(&path).await.unwrap();
        assert!(peer_is_us(&stream));
    }

    #[test]
    fn a_runtime_directory_that_others_write_in_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().join("run/headgate");
        runtime_dir(&runtime).unwrap();
        assert_eq!(
            std::fs::metadata(&runtime).unwrap().permissions().mode() & 0o777,
            0o700
        );
        std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            runtime_dir(&runtime),
            Err(ControlPlaneError::Runtime { .. })
        ));
    }

    #[test]
    fn users_have_names_or_numbers() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_294_967_290), "4294967290");
    }
}
