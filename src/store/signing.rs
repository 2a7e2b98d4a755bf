//! The key that signs checkpoints: made on first start, never replaced silently.
//!
//! Ed25519 (RFC 8032). `signing.key` holds the 32 bytes of the private key in base64, like `secret.key`. Whoever has the public key can prove what
//! the journal said and when, and nothing about anybody; the secret is another matter and stands in its own file.

use std::fmt;
use std::path::Path;
use std::{fs, io};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use super::files;

/// Bytes of either half of a key.
const KEY_BYTES: usize = 32;

/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: usize = 64;

/// DER of an Ed25519 public key (RFC 8410) but for its last 32 bytes, which are the key.
const DER_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A public key that checkpoints are verified with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl PublicKey {
    /// From its 32 bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Reads PEM (`-----BEGIN PUBLIC KEY-----`), or its base64 without the frame, or the base64 of the bare 32
    /// bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let bytes = BASE64.decode(body.as_bytes()).ok()?;
        Self::from_bytes(bytes.strip_prefix(&DER_HEAD[..]).unwrap_or(&bytes))
    }

    /// The key as other programs read it (RFC 7468, `openssl pkey -pubin`).
    #[must_use]
    pub fn to_pem(&self) -> String {
        let der = [&DER_HEAD[..], &self.0].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(&der))
    }

    /// A short name for it: the first 16 hex digits of its SHA-256.
    #[must_use]
    pub fn id(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(self.0)[..8])
    }

    /// Whether this key's other half signed these bytes.
    #[must_use]
    pub(super) fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(bytes, signature).is_ok()
    }
}

/// The private half. Never printed: `Debug` shows the public key's name only.
pub(super) struct Signer {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public.id())
    }
}

impl Signer {
    /// From the 32 bytes of a private key.
    fn of(seed: &[u8]) -> io::Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(io::Error::other)?;
        let public = PublicKey::from_bytes(pair.public_key().as_ref());
        public.map(|public| Self { pair, public }).ok_or_else(|| io::Error::other("it has no public key"))
    }

    /// Makes a key; it is nowhere on disk yet.
    pub(super) fn generate() -> io::Result<(Self, [u8; KEY_BYTES])> {
        let mut seed = [0; KEY_BYTES];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        Ok((Self::of(&seed)?, seed))
    }

    /// Writes a private key to its file (mode 0600), durable when it returns.
    pub(super) fn save(path: &Path, seed: &[u8; KEY_BYTES]) -> io::Result<()> {
        files::put(path, format!("{}\n", BASE64.encode(seed)).as_bytes())
    }

    /// Reads the key file; `None` when there is none.
    ///
    /// # Errors
    /// When it is not readable, or no such key.
    pub(super) fn load(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let damaged = || io::Error::other("it is not a key of 32 bytes in base64; restore it from a backup");
        let seed = BASE64.decode(text.trim().as_bytes()).map_err(|_| damaged())?;
        if seed.len() != KEY_BYTES {
            return Err(damaged());
        }
        Self::of(&seed).map(Some)
    }

    pub(super) fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> io::Result<[u8; SIGNATURE_BYTES]> {
        let signature = self.pair.try_sign(bytes).map_err(io::Error::other)?;
        signature.as_ref().try_into().map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 2: what we sign, others verify.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).unwrap();
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let signer = Signer::of(&seed).unwrap();
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(signer.public().as_bytes()[..], public);
        let signature = signer.sign(&[0x72]).unwrap();
        assert_eq!(
            HEXLOWER.encode(&signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert!(signer.public().verifies(&[0x72], &signature));
        assert!(!signer.public().verifies(&[0x73], &signature));
        assert!(!signer.public().verifies(&[0x72], &signature[..63]));
    }

    #[test]
    fn a_public_key_reads_back_in_every_form() {
        let (signer, _) = Signer::generate().unwrap();
        let key = signer.public();
        let pem = key.to_pem();
        let bare = BASE64.encode(key.as_bytes());
        for text in [&pem, pem.lines().nth(1).unwrap(), &bare, &format!("{bare}\n")] {
            assert_eq!(PublicKey::parse(text), Some(key), "{text}");
        }
        for text in ["", "c2hvcnQ=", "-----BEGIN PUBLIC KEY-----"] {
            assert_eq!(PublicKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_file_is_read_back_and_a_damaged_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        assert!(Signer::load(&path).unwrap().is_none());
        let (signer, seed) = Signer::generate().unwrap();
        Signer::save(&path, &seed).unwrap();
        assert_eq!(Signer::load(&path).unwrap().unwrap().public(), signer.public());
        fs::write(&path, "c2hvcnQ=").unwrap();
        assert!(Signer::load(&path).unwrap_err().to_string().contains("32 bytes"));
    }
}
