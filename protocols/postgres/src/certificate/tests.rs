//! Certificates of every signature, made by OpenSSL (`corpus/certificate`).

use super::*;

fn length_of(certificate: &[u8]) -> Option<usize> {
    tls_server_end_point(certificate).map(|hash| hash.len())
}

#[test]
fn the_hash_is_that_of_the_signature_and_never_sha_1() {
    for (name, certificate, bytes) in [
        (
            "ecdsa_sha256",
            include_bytes!("../../corpus/certificate/ecdsa_sha256").as_slice(),
            Some(32),
        ),
        (
            "ecdsa_sha384",
            include_bytes!("../../corpus/certificate/ecdsa_sha384"),
            Some(48),
        ),
        (
            "ecdsa_sha512",
            include_bytes!("../../corpus/certificate/ecdsa_sha512"),
            Some(64),
        ),
        (
            "rsa_sha1",
            include_bytes!("../../corpus/certificate/rsa_sha1"),
            Some(32),
        ),
        (
            "rsa_sha256",
            include_bytes!("../../corpus/certificate/rsa_sha256"),
            Some(32),
        ),
        (
            "rsa_sha512",
            include_bytes!("../../corpus/certificate/rsa_sha512"),
            Some(64),
        ),
        (
            "pss_sha384",
            include_bytes!("../../corpus/certificate/pss_sha384"),
            Some(48),
        ),
        (
            "ed25519",
            include_bytes!("../../corpus/certificate/ed25519"),
            None,
        ),
    ] {
        assert_eq!(length_of(certificate), bytes, "{name}");
        assert_eq!(
            length_of(&certificate[..certificate.len() - 1]),
            None,
            "{name} cut"
        );
        assert_eq!(
            length_of(&[certificate, &[0]].concat()),
            None,
            "{name} with a byte more"
        );
    }
}

#[test]
fn it_is_the_hash_of_the_whole_certificate() {
    let certificate = include_bytes!("../../corpus/certificate/ecdsa_sha256");
    assert_eq!(
        tls_server_end_point(certificate).unwrap(),
        digest::digest(&SHA256, certificate).as_ref()
    );
}
