//! Who vouches for a snapshot: Ed25519 signatures over its name and its id.
//!
//! The id is the digest of the manifest, which has the digests of everything else. So a signature covers every byte of a
//! snapshot and of its images, and that it is this name that stands for them: one function's snapshot cannot be passed off
//! as another's. It does not say that it is the newest of that name.
//!
//! Keys are PEM files as OpenSSL makes them (RFC 8410):
//!
//! ```text
//! openssl genpkey -algorithm ed25519 -out signing.pem
//! openssl pkey -in signing.pem -pubout -out trusted.pem
//! ```

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey};
use ed25519_dalek::{Signature, Signer, VerifyingKey};

use crate::Digest;

/// Longest key or signature file that is read, in bytes. A key takes some 120; a signature a line of 280.
pub(crate) const MAX_LEN: u64 = 64 << 10;

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct KeyError {
    /// The file or folder.
    pub path: PathBuf,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error(
        "is no Ed25519 private key in PEM; make one with `openssl genpkey -algorithm ed25519 -out FILE`"
    )]
    Private,
    #[error(
        "is no Ed25519 public key in PEM; make one with `openssl pkey -in PRIVATE -pubout -out FILE`"
    )]
    Public,
    #[error("holds no file whose name ends in .pem: nobody would be trusted")]
    Nobody,
}

/// A line of a signature file that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is no signature")]
pub struct MalformedSignature(usize);

/// What a builder signs with.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Reads a private key.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is no Ed25519 private key (PKCS #8, PEM).
    pub fn read(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let refused = |why| KeyError { path: path.into(), why };
        let text = text(path).map_err(|e| refused(e.into()))?;
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&text);
        key.map(Self).map_err(|_| refused(Why::Private))
    }

    pub(crate) fn sign(&self, name: &str, id: Digest) -> Signed {
        Signed {
            key: self.0.verifying_key().to_bytes(),
            signature: self.0.sign(&message(name, id)).to_bytes(),
            id,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

/// Whose signatures a host goes by.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<VerifyingKey>);

impl TrustedKeys {
    /// Reads a public key, or every `*.pem` of a folder.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or is no Ed25519 public key (SubjectPublicKeyInfo, PEM); and for a folder without any.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let refused = |why| KeyError { path: path.into(), why };
        let is_folder = fs::metadata(path).map_err(|e| refused(e.into()))?.is_dir();
        let mut files = vec![path.to_owned()];
        if is_folder {
            let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            files =
                entries.map_err(|e| refused(e.into()))?.iter().map(fs::DirEntry::path).collect();
            files.retain(|file| file.extension().is_some_and(|extension| extension == "pem"));
        }
        let keys = files.iter().map(|file| public(file)).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(refused(Why::Nobody)) } else { Ok(Self(keys)) }
    }

    pub(crate) fn and(mut self, key: &SigningKey) -> Self {
        self.0.push(key.0.verifying_key());
        self
    }

    /// Whether one of these keys signed that `name` stands for `id`.
    pub(crate) fn judge(&self, name: &str, id: Digest, signatures: &[Signed]) -> Verdict {
        let mut verdict = Verdict::Unsigned;
        for signed in signatures.iter().filter(|signed| signed.id == id) {
            let trusted = self.0.iter().find(|key| key.to_bytes() == signed.key);
            let Some(key) = trusted else { continue };
            let signature = Signature::from_bytes(&signed.signature);
            // Strictly: a key of low order would vouch for anything (RFC 8032, 5.1.7 leaves that open).
            if key.verify_strict(&message(name, id), &signature).is_ok() {
                return Verdict::Signed;
            }
            verdict = Verdict::Wrong { key: hex::encode(signed.key) };
        }
        verdict
    }
}

/// What the signatures of a snapshot are worth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Signed,
    /// Nobody who is trusted has signed this id.
    Unsigned,
    /// Somebody has written a trusted key's name under something that it did not sign.
    Wrong {
        key: String,
    },
}

/// A signature as it is kept: a line of key, signature and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    key: [u8; 32],
    signature: [u8; 64],
    pub(crate) id: Digest,
}

impl Signed {
    /// Whether both are by the same key.
    pub(crate) fn is_by(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// Reads the lines of a signature file, which nobody has vouched for yet.
pub(crate) fn parse(text: &str) -> Result<Vec<Signed>, MalformedSignature> {
    let lines = (1..).zip(text.lines());
    lines.map(|(number, line)| parse_line(line).ok_or(MalformedSignature(number))).collect()
}

fn parse_line(line: &str) -> Option<Signed> {
    let mut words = line.split(' ');
    let (scheme, key, signature, id) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if scheme != SCHEME || words.next().is_some() {
        return None;
    }
    let mut signed = Signed { key: [0; 32], signature: [0; 64], id: id.parse().ok()? };
    hex::decode_to_slice(key, &mut signed.key).ok()?;
    hex::decode_to_slice(signature, &mut signed.signature).ok()?;
    Some(signed)
}

/// The lines of a signature file.
pub(crate) fn print(signatures: &[Signed]) -> String {
    signatures.iter().fold(String::new(), |mut text, Signed { key, signature, id }| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{SCHEME} {} {} {id}", hex::encode(key), hex::encode(signature));
        text
    })
}

const SCHEME: &str = "ed25519";

/// What is signed. No other document begins like this.
fn message(name: &str, id: Digest) -> Vec<u8> {
    format!("calve snapshot signature 1\n{name}\n{id}\n").into_bytes()
}

fn public(path: &Path) -> Result<VerifyingKey, KeyError> {
    let refused = |why| KeyError { path: path.into(), why };
    let text = text(path).map_err(|e| refused(e.into()))?;
    VerifyingKey::from_public_key_pem(&text).map_err(|_| refused(Why::Public))
}

fn text(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_LEN).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey(ed25519_dalek::SigningKey::from_bytes(&[seed; 32]))
    }

    fn trusting(keys: &[&SigningKey]) -> TrustedKeys {
        TrustedKeys(keys.iter().map(|key| key.0.verifying_key()).collect())
    }

    #[test]
    fn a_signature_is_of_one_key_one_name_and_one_id() {
        let (ours, theirs, id) = (key(1), key(2), Digest::of(b"a manifest"));
        let signatures = [theirs.sign("resize", id), ours.sign("resize", id)];
        let trusted = trusting(&[&ours]);
        assert_eq!(trusted.judge("resize", id, &signatures), Verdict::Signed);
        assert_eq!(trusted.judge("resize", id, &signatures[..1]), Verdict::Unsigned);
        assert_eq!(trusted.judge("resize", Digest::of(b"b"), &signatures), Verdict::Unsigned);
        let wrong = trusted.judge("pay", id, &signatures);
        assert!(matches!(wrong, Verdict::Wrong { key } if key.len() == 64));
        let other = Signed { id: Digest::of(b"b"), ..ours.sign("resize", id) };
        let wrong = trusted.judge("resize", Digest::of(b"b"), &[other]);
        assert!(matches!(wrong, Verdict::Wrong { .. }));
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let signatures = [1, 2].map(|seed| key(seed).sign("resize", Digest::of(b"x")));
        let text = print(&signatures);
        assert_eq!(parse(&text).unwrap(), signatures);
        let twice = text.replace("ed25519", "rsa");
        assert_eq!(parse(&twice), Err(MalformedSignature(1)));
        assert_eq!(parse(&format!("{text}\n")), Err(MalformedSignature(3)));
        assert!(parse("").unwrap().is_empty());
    }

    /// RFC 8032, 7.1, test 2: the public key of a private one, in the PEM of RFC 8410.
    #[test]
    fn keys_are_read_as_openssl_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert!(matches!(TrustedKeys::read(dir.path()), Err(KeyError { why: Why::Nobody, .. })));
        let private = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n\
            -----END PRIVATE KEY-----\n";
        fs::write(path("private"), private).unwrap();
        let key = SigningKey::read(path("private"));
        let public = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n\
            -----END PUBLIC KEY-----\n";
        fs::write(path("public.pem"), public).unwrap();
        let trusted = TrustedKeys::read(dir.path()).unwrap();
        let error = SigningKey::read(path("public.pem")).unwrap_err();
        assert!(error.to_string().contains("openssl genpkey"), "{error}");
        let error = TrustedKeys::read(path("private")).unwrap_err();
        assert!(error.to_string().contains("-pubout"), "{error}");
        assert!(matches!(SigningKey::read(path("x")), Err(KeyError { why: Why::Read(_), .. })));
        let id = Digest::of(b"x");
        let signatures = [key.unwrap().sign("resize", id)];
        assert_eq!(trusted.judge("resize", id, &signatures), Verdict::Signed);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,400}") {
            let _ = parse(&text);
        }
    }
}
