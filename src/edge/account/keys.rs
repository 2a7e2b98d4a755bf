//! The keys by which tokens are verified: read from a file or from what was fetched.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::config::JwtAlgorithm;

/// Keys of one set that are kept; issuers publish two or three.
const MOST_KEYS: usize = 64;

/// Object identifiers of public keys (RFC 8017, RFC 5480, RFC 8410).
const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";
const ED25519: &str = "1.3.101.112";

/// A set of keys that is in force as a whole.
#[derive(Debug)]
pub struct KeySet {
    /// Another number for each set of the process, so that what an older set said can be told.
    number: u64,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The only algorithm it is for; `None`: all of its family.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// Which keys a token may have been signed with.
#[derive(Debug)]
pub enum Candidates<'a> {
    /// These.
    Keys(Vec<&'a DecodingKey>),
    /// It names a key that is not in the set: this one.
    UnknownId(&'a str),
    /// None of the set's is of its algorithm.
    None,
}

impl KeySet {
    fn new(keys: Vec<Key>) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self { number: NUMBER.fetch_add(1, Ordering::Relaxed), keys }
    }

    /// Reads a file: a JSON Web Key Set, a public key as PEM, else a secret (its end of line is not part of it).
    ///
    /// # Errors
    /// Names the file and says what is wrong with it.
    pub fn read(file: &Path, algorithms: &[JwtAlgorithm]) -> anyhow::Result<Self> {
        let named = || file.display().to_string();
        let bytes = std::fs::read(file).with_context(named)?;
        let text = bytes.trim_ascii();
        if text.starts_with(b"{") {
            return Self::of_jwks(text, algorithms, true).with_context(named);
        }
        if memchr::memmem::find(text, b"-----BEGIN").is_some() {
            return Self::of_pem(text, algorithms).with_context(named);
        }
        Self::of_secret(text, algorithms).with_context(named)
    }

    fn of_secret(secret: &[u8], algorithms: &[JwtAlgorithm]) -> anyhow::Result<Self> {
        ensure!(
            algorithms.iter().all(|algorithm| algorithm.is_symmetric()),
            "this is no PEM and no JWKS, so it is taken for a secret, and a secret is for HS256, HS384 and HS512 only"
        );
        let least = algorithms.iter().map(|algorithm| algorithm.least_secret()).max().unwrap_or(32);
        ensure!(
            secret.len() >= least,
            "the secret has {} bytes, and its algorithms need {least} (RFC 7518, section 3.2)",
            secret.len()
        );
        let key = DecodingKey::from_secret(secret);
        Ok(Self::new(vec![Key { id: None, algorithm: None, key }]))
    }

    fn of_pem(pem: &[u8], algorithms: &[JwtAlgorithm]) -> anyhow::Result<Self> {
        let private = memchr::memmem::find(pem, b"PRIVATE KEY-----").is_some();
        ensure!(
            !private,
            "this is a private key: only its public part is needed here, and no more should be"
        );
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|_| anyhow::anyhow!("no `-----BEGIN PUBLIC KEY-----` can be read here"))?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&der)
            .map_err(|error| anyhow::anyhow!("the public key cannot be read: {error}"))?;
        let bytes = &info.subject_public_key.data;
        let key = match info.algorithm.algorithm.to_id_string().as_str() {
            RSA => DecodingKey::from_rsa_der(bytes),
            EC => DecodingKey::from_ec_der(bytes),
            ED25519 => DecodingKey::from_ed_der(bytes),
            other => bail!("the public key is of a kind that signs no token ({other})"),
        };
        let set = Self::new(vec![Key { id: None, algorithm: None, key }]);
        set.fits(algorithms)?;
        Ok(set)
    }

    /// Reads a JSON Web Key Set (RFC 7517, 5), or one key. `secrets`: it may hold some. Keys for other things and of
    /// other kinds are left out.
    ///
    /// # Errors
    /// It cannot be read, or no key in it is of the algorithms.
    pub fn of_jwks(json: &[u8], algorithms: &[JwtAlgorithm], secrets: bool) -> anyhow::Result<Self> {
        // A key that cannot be read is no reason to do without the others.
        #[derive(serde::Deserialize)]
        struct Loose {
            keys: Option<Vec<serde_json::Value>>,
        }
        let loose: Loose = serde_json::from_slice(json).context("this is no JSON Web Key Set")?;
        let values = match loose.keys {
            Some(values) => values,
            None => vec![serde_json::from_slice(json).context("this is no JSON Web Key")?],
        };
        let read = values.into_iter().filter_map(|value| serde_json::from_value::<Jwk>(value).ok());
        let set = JwkSet { keys: read.take(MOST_KEYS).collect() };
        let usable = set.keys.iter().filter(|jwk| {
            let signs = !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
            // RFC 7517, 4.3. A public key verifies; some write what its private one does.
            let operations = jwk.common.key_operations.as_deref();
            let for_it = |one: &KeyOperations| matches!(one, KeyOperations::Verify | KeyOperations::Sign);
            let signs = signs && operations.is_none_or(|all| all.is_empty() || all.iter().any(for_it));
            let secret = matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
            signs && (secrets || !secret)
        });
        let set = Self::new(usable.filter_map(Key::of).collect());
        set.fits(algorithms)?;
        Ok(set)
    }

    /// Refuses a set with which no token could be verified.
    fn fits(&self, algorithms: &[JwtAlgorithm]) -> anyhow::Result<()> {
        let any = self.keys.iter().any(|key| algorithms.iter().any(|a| key.is_for(of(*a))));
        let names = || algorithms.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(", ");
        ensure!(any, "no key here is for {}", names());
        Ok(())
    }

    /// A number that no other set of this process has.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The keys that a token's header allows.
    #[must_use]
    pub fn candidates<'a>(&'a self, id: Option<&'a str>, algorithm: Algorithm) -> Candidates<'a> {
        let fitting = |key: &&Key| key.is_for(algorithm);
        let chosen: Vec<&Key> = match id {
            None => self.keys.iter().filter(fitting).collect(),
            Some(id) => {
                let named = |key: &&Key| key.id.as_deref() == Some(id);
                let unnamed = |key: &&Key| key.id.is_none();
                let mut chosen: Vec<&Key> = self.keys.iter().filter(named).filter(fitting).collect();
                if chosen.is_empty() {
                    // A key without a name, as a file has, is for tokens with any.
                    chosen = self.keys.iter().filter(unnamed).filter(fitting).collect();
                }
                if chosen.is_empty() && !self.keys.iter().any(|key| key.id.as_deref() == Some(id)) {
                    return Candidates::UnknownId(id);
                }
                chosen
            }
        };
        if chosen.is_empty() {
            return Candidates::None;
        }
        Candidates::Keys(chosen.into_iter().map(|key| &key.key).collect())
    }
}

impl Key {
    fn of(jwk: &Jwk) -> Option<Self> {
        let algorithm = match jwk.common.key_algorithm {
            Some(algorithm) => Some(Algorithm::try_from(algorithm).ok()?),
            None => None,
        };
        let algorithm = algorithm.or(match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                Some(Algorithm::ES256)
            }
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => {
                Some(Algorithm::ES384)
            }
            _ => None,
        });
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { id: jwk.common.key_id.clone(), algorithm, key })
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.key.family() == algorithm.family() && self.algorithm.is_none_or(|own| own == algorithm)
    }
}

/// The library's word for an algorithm.
#[must_use]
pub const fn of(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::HS384 => Algorithm::HS384,
        JwtAlgorithm::HS512 => Algorithm::HS512,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS384 => Algorithm::RS384,
        JwtAlgorithm::RS512 => Algorithm::RS512,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::PS384 => Algorithm::PS384,
        JwtAlgorithm::PS512 => Algorithm::PS512,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7517: what is for something else, or a secret from an address, is left out.
    #[test]
    fn only_keys_that_sign_are_taken_from_a_set() {
        let json = br#"{"keys": [
            {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "a"},
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "use": "enc"},
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "key_ops": ["wrapKey", "x"]},
            {"kty": "strange"}, 7]}"#;
        let set = KeySet::of_jwks(json, &[JwtAlgorithm::EdDSA], false).unwrap();
        assert!(
            matches!(set.candidates(Some("a"), Algorithm::EdDSA), Candidates::Keys(keys) if keys.len() == 1)
        );
        assert!(matches!(set.candidates(None, Algorithm::EdDSA), Candidates::Keys(keys) if keys.len() == 1));
        assert!(matches!(set.candidates(Some("secret"), Algorithm::HS256), Candidates::UnknownId("secret")));
        assert!(matches!(set.candidates(Some("a"), Algorithm::HS256), Candidates::None));
        let error = KeySet::of_jwks(json, &[JwtAlgorithm::HS256], false).unwrap_err().to_string();
        assert!(error.contains("no key here is for HS256"), "{error}");
        assert!(KeySet::of_jwks(b"[]", &[JwtAlgorithm::HS256], true).is_err());
    }

    /// RFC 7518, 3.2; RFC 8725, 3.5: a short secret can be guessed.
    #[test]
    fn a_short_secret_is_refused() {
        let error = KeySet::of_secret(b"short", &[JwtAlgorithm::HS256]).unwrap_err().to_string();
        assert!(error.contains("5 bytes") && error.contains("32"), "{error}");
        assert!(KeySet::of_secret(&[b'x'; 32], &[JwtAlgorithm::HS256, JwtAlgorithm::HS512]).is_err());
        assert!(KeySet::of_secret(&[b'x'; 32], &[JwtAlgorithm::HS256]).is_ok());
        assert!(KeySet::of_secret(&[b'x'; 32], &[JwtAlgorithm::RS256]).is_err());
    }
}
