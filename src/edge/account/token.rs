//! Tokens that name an account: found in a request, and verified.
//!
//! A token that does not verify names nobody, is counted by its reason, and is no error to the visitor: whether it
//! opens anything is for the site to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, header};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::absent::AbsentNames;
use super::keys::{self, Candidates, KeySet};
use super::memory::Remembered;
use super::scope::{Known, Scope};
use crate::config::{Jwt, JwtKeys};
use crate::telemetry::accounts::Token;

/// Longest time for which a token is remembered, seconds.
const LONGEST: i64 = 3_600;

/// How long a refusal is remembered, seconds: a clock may be set, a token's time come.
const REFUSED_FOR: i64 = 10;

/// Shortest time between two fetches for the sake of a key that a token names.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Tokens of a request that are looked at; each may cost a signature check.
const TOKENS: usize = 4;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This account.
    Account(Known),
    /// Nobody can say yet: its key may be in the next set.
    Pending,
    /// It names nobody.
    Refused(Token),
}

/// Where a token stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In `Authorization`, which no page but the site's own can have sent.
    Bearer,
    /// In a cookie, of which there may be several of one name.
    Cookie,
}

/// Verifies tokens; shared by all cores, and kept over reloads that do not change its settings.
#[derive(Debug)]
pub struct Verifier {
    /// As configured.
    pub settings: Jwt,
    /// `None` until they were fetched for the first time.
    keys: ArcSwapOption<Taken>,
    /// Names of keys that were in no set when a token bore them.
    absent: AbsentNames,
    /// Somebody needs a key that is not there.
    wanted: Notify,
    /// When a fetch was last asked for, milliseconds after `since` and one; 0: never.
    asked: AtomicU64,
    /// When one last ended, the same.
    ended: AtomicU64,
    since: Instant,
}

/// A moment in the life of a verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// A set in force, with the moment at which it was asked for: what it lacks, and was seen before that, is made up. The
/// two stand together so that no set is judged by another's moment.
#[derive(Debug)]
struct Taken {
    set: KeySet,
    asked_for: Moment,
}

impl Verifier {
    /// Reads the keys where they are in a file.
    ///
    /// # Errors
    /// Names the file and says what is wrong with it.
    pub fn new(settings: Jwt) -> anyhow::Result<Self> {
        let keys = match &settings.keys {
            JwtKeys::File(file) => {
                let set = KeySet::read(file, &settings.algorithms)?;
                Some(Arc::new(Taken { set, asked_for: Moment(0) }))
            }
            JwtKeys::Url(_) => None,
        };
        Ok(Self {
            settings,
            keys: ArcSwapOption::new(keys),
            absent: AbsentNames::default(),
            wanted: Notify::new(),
            asked: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            since: Instant::now(),
        })
    }

    /// Now; taken before a set is asked for.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment(self.millis())
    }

    /// The number of the set in force; 0 before the first.
    pub(super) fn set_number(&self) -> u64 {
        self.keys.load().as_ref().map_or(0, |taken| taken.set.number())
    }

    /// Puts a set in force that was asked for at a moment.
    pub fn take(&self, set: KeySet, asked_for: Moment) {
        self.keys.store(Some(Arc::new(Taken { set, asked_for })));
    }

    /// A fetch has ended, whatever came of it.
    pub fn fetched(&self) {
        self.ended.store(self.millis(), Ordering::Release);
    }

    /// Waits until a key is wanted that is not there.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// What may be the tokens of a request, those that count first before the others: a bearer's, then cookies'. An API's
    /// own bearer and a stale cookie of another path are none, which only a look at them tells.
    pub fn tokens<'a>(&self, headers: &'a HeaderMap) -> impl Iterator<Item = (Place, &'a [u8])> {
        let bearer = || {
            let value = headers.get(header::AUTHORIZATION)?.as_bytes();
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii()).filter(|t| !t.is_empty())
        };
        let cookies =
            self.settings.cookie.as_deref().into_iter().flat_map(|name| super::cookies(headers, name));
        let bearer = self.settings.bearer.then(bearer).flatten().map(|token| (Place::Bearer, token));
        bearer.into_iter().chain(cookies.map(|token| (Place::Cookie, token))).take(TOKENS)
    }

    /// Verifies a token, and says until when (Unix seconds) and by which set the verdict holds.
    ///
    /// Cost: a signature check, 20 to 150 us.
    pub(super) fn verify(&self, scope: Scope<'_>, token: &[u8], now: i64) -> Remembered {
        let taken = self.keys.load();
        let of = |verdict, until| {
            let number = taken.as_ref().map_or(0, |taken| taken.set.number());
            Remembered { verdict, until, set: number }
        };
        match self.examine(taken.as_deref(), token) {
            Ok((account, ends)) => {
                let leeway = i64::try_from(self.settings.leeway.as_secs()).unwrap_or(0);
                let until = ends.saturating_add(leeway).min(now.saturating_add(LONGEST));
                of(Verdict::Account(scope.account(account.as_bytes())), until)
            }
            Err(Token::Pending) => of(Verdict::Pending, now),
            Err(why) => of(Verdict::Refused(why), now.saturating_add(REFUSED_FOR)),
        }
    }

    /// The account that a token names, as it names it.
    ///
    /// Cost: a signature check, 20 to 150 us.
    #[must_use]
    pub fn account_key(&self, token: &[u8]) -> Option<String> {
        self.examine(self.keys.load().as_deref(), token).ok().map(|(account, _)| account)
    }

    /// The account of a token and when it ends (Unix seconds), or why it names none.
    fn examine(&self, taken: Option<&Taken>, token: &[u8]) -> Result<(String, i64), Token> {
        let head = jsonwebtoken::decode_header(token).map_err(|_| Token::Malformed)?;
        // RFC 7515, 4.1.11: what must be understood is not understood here.
        if head.crit.is_some() {
            return Err(Token::Malformed);
        }
        if !self.settings.algorithms.iter().any(|a| keys::of(*a) == head.alg) {
            return Err(Token::Algorithm);
        }
        let taken = taken.ok_or(Token::Pending)?;
        let candidates = match taken.set.candidates(head.kid.as_deref(), head.alg) {
            Candidates::Keys(candidates) => candidates,
            Candidates::UnknownId(id) if self.may_still_come(id, taken) => return Err(Token::Pending),
            Candidates::UnknownId(_) | Candidates::None => return Err(Token::Key),
        };
        let mut validation = Validation::new(head.alg);
        self.demand(&mut validation);
        let claims = match first_that_signed(token, &candidates, &validation) {
            Ok(claims) => claims,
            // Without a name, or under the same, a new key is told apart by its signatures alone.
            Err(error) => match reason(&error) {
                Token::Signature if self.may_still_come(&signed_by(token), taken) => {
                    return Err(Token::Pending);
                }
                why => return Err(why),
            },
        };
        let account = claims.get(&self.settings.claim).and_then(text).ok_or(Token::Claim)?;
        // What is not a number has been refused; what is too large is far away.
        let ends = claims.get("exp").and_then(Value::as_f64).map_or(i64::MAX, |exp| exp as i64);
        Ok((account, ends))
    }

    /// What beside its signature a token must have.
    fn demand(&self, validation: &mut Validation) {
        validation.leeway = self.settings.leeway.as_secs();
        validation.validate_nbf = true;
        validation.required_spec_claims.clear();
        validation.validate_aud = !self.settings.audience.is_empty();
        if validation.validate_aud {
            validation.set_audience(&self.settings.audience);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if let Some(issuer) = &self.settings.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
    }

    /// Whether a key that is not in the set may be in the next one, which is asked for. However often that fails, and
    /// however long it is held back, nobody can know whose the token is until a set has come that was asked for after
    /// it. `id`: the key's name, or what else is seen of it.
    fn may_still_come(&self, id: &str, taken: &Taken) -> bool {
        if matches!(self.settings.keys, JwtKeys::File(_)) {
            return false;
        }
        self.ask_for_keys();
        Moment(self.absent.first_seen(id, self.millis())) >= taken.asked_for
    }

    /// Has the set fetched again, not too often: the names of keys cost nothing to make up.
    fn ask_for_keys(&self) {
        let (now, asked) = (self.millis(), self.asked.load(Ordering::Acquire));
        let under_way = asked > self.ended.load(Ordering::Acquire);
        let pause = u64::try_from(ASK_AGAIN.as_millis()).unwrap_or(u64::MAX);
        if under_way || asked != 0 && now.saturating_sub(asked) < pause {
            return;
        }
        if self.asked.compare_exchange(asked, now, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.wanted.notify_one();
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).map_or(u64::MAX, |millis| millis.saturating_add(1))
    }
}

/// What is seen of the key of a token that none of a set's has signed: what it signed.
fn signed_by(token: &[u8]) -> String {
    format!("signed {}", String::from_utf8_lossy(token))
}

/// The claims, by the first key that signed them.
fn first_that_signed(
    token: &[u8],
    candidates: &[&DecodingKey],
    validation: &Validation,
) -> Result<Map<String, Value>, Error> {
    let mut last = Error::from(ErrorKind::InvalidToken);
    for key in candidates {
        match jsonwebtoken::decode(token, key, validation) {
            Ok(data) => return Ok(data.claims),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// A claim that can be a key: a text, or a number as it is written.
fn text(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn reason(error: &Error) -> Token {
    match error.kind() {
        ErrorKind::InvalidSignature => Token::Signature,
        ErrorKind::ExpiredSignature => Token::Expired,
        ErrorKind::ImmatureSignature => Token::Early,
        ErrorKind::InvalidIssuer => Token::Issuer,
        ErrorKind::InvalidAudience => Token::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Token::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Token::Audience,
        ErrorKind::InvalidAlgorithm => Token::Algorithm,
        _ => Token::Malformed,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use serde_json::json;

    use super::*;
    use crate::config::JwtAlgorithm;
    use crate::privacy::Keys;

    const SECRET: &[u8] = b"a secret of thirty-two bytes, or more";

    pub(in crate::edge::account) fn verifier(change: impl FnOnce(&mut Jwt)) -> Verifier {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, [SECRET, b"\n"].concat()).unwrap();
        let mut settings = Jwt {
            cookie: Some("t".into()),
            bearer: true,
            claim: "sub".into(),
            algorithms: vec![JwtAlgorithm::HS256],
            keys: JwtKeys::File(file),
            issuer: None,
            audience: Vec::new(),
            leeway: Duration::from_secs(30),
        };
        change(&mut settings);
        Verifier::new(settings).unwrap()
    }

    pub(in crate::edge::account) fn token(claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET))
            .unwrap()
    }

    pub(in crate::edge::account) fn now() -> i64 {
        jiff::Timestamp::now().as_second()
    }

    fn said(verifier: &Verifier, token: &str) -> Verdict {
        verifier.verify(Scope::new(&Keys::derive(b"k"), "shop"), token.as_bytes(), now()).verdict
    }

    pub(in crate::edge::account) fn ann() -> Verdict {
        Verdict::Account(Scope::new(&Keys::derive(b"k"), "shop").account(b"ann"))
    }

    /// RFC 7519, 4.1 and 7.2; RFC 8725: each reason by its name.
    #[test]
    fn a_token_is_refused_for_the_reason_it_has() {
        let plain = verifier(|_| ());
        assert_eq!(said(&plain, &token(&json!({"sub": "ann"}))), ann());
        assert_eq!(
            said(&plain, &token(&json!({"sub": "ann", "exp": now() - 20}))),
            ann(),
            "within the leeway"
        );
        let good = token(&json!({"sub": "ann"}));
        let (signed, _) = good.rsplit_once('.').unwrap();
        let none = format!("{}.{}.", "eyJhbGciOiJub25lIn0", good.split('.').nth(1).unwrap());
        let critical = Header { crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::HS256) };
        let critical =
            jsonwebtoken::encode(&critical, &json!({"sub": "ann"}), &EncodingKey::from_secret(SECRET));
        let other = jsonwebtoken::encode(
            &Header::new(Algorithm::HS512),
            &json!({"sub": "ann"}),
            &EncodingKey::from_secret(SECRET),
        );
        for (text, why) in [
            (token(&json!({"sub": "ann", "exp": now() - 40})), Token::Expired),
            (token(&json!({"sub": "ann", "exp": "soon"})), Token::Malformed),
            (token(&json!({"sub": "ann", "nbf": now() + 40})), Token::Early),
            (token(&json!({"sub": ""})), Token::Claim),
            (token(&json!({"sub": ["ann"]})), Token::Malformed),
            (token(&json!({"name": "ann"})), Token::Claim),
            (format!("{signed}.AAAA"), Token::Signature),
            (none, Token::Malformed),
            (critical.unwrap(), Token::Malformed),
            (other.unwrap(), Token::Algorithm),
            ("no token".to_owned(), Token::Malformed),
        ] {
            assert_eq!(said(&plain, &text), Verdict::Refused(why), "{text}");
        }
        let strict = verifier(|s| {
            s.issuer = Some("id".into());
            s.audience = vec!["shop".into()];
        });
        assert_eq!(
            said(&strict, &token(&json!({"sub": "ann", "iss": "id", "aud": ["blog", "shop"]}))),
            ann()
        );
        for (claims, why) in [
            (json!({"sub": "ann", "aud": "shop"}), Token::Issuer),
            (json!({"sub": "ann", "iss": "else", "aud": "shop"}), Token::Issuer),
            (json!({"sub": "ann", "iss": "id"}), Token::Audience),
            (json!({"sub": "ann", "iss": "id", "aud": "blog"}), Token::Audience),
        ] {
            assert_eq!(said(&strict, &token(&claims)), Verdict::Refused(why), "{claims}");
        }
    }

    /// Account numbers are claims too; one that is a number is the same account as a text of its digits.
    #[test]
    fn the_claim_can_have_another_name_and_be_a_number() {
        let verifier = verifier(|s| s.claim = "account".into());
        let number = said(&verifier, &token(&json!({"account": 7})));
        assert_eq!(number, said(&verifier, &token(&json!({"account": "7"}))));
        assert!(matches!(number, Verdict::Account(_)));
    }

    /// A set of one key; its `x` need not be a point, for nothing is verified with it.
    fn set(id: &str) -> KeySet {
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": id});
        KeySet::of_jwks(key.to_string().as_bytes(), &[JwtAlgorithm::EdDSA], false).unwrap()
    }

    fn named(id: &str) -> String {
        let head = json!({"alg": "EdDSA", "kid": id}).to_string();
        let part = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
        format!("{}.{}.{}", part(&head), part("{\"sub\":\"ann\"}"), part("no signature"))
    }

    fn fetching() -> Verifier {
        verifier(|settings| {
            settings.algorithms = vec![JwtAlgorithm::EdDSA];
            settings.keys = JwtKeys::Url(crate::config::JwksUrl {
                url: "https://id.example/jwks.json".parse().unwrap(),
                roots: None,
                refresh: Duration::from_secs(3_600),
            });
        })
    }

    /// An issuer that changes its keys while they cannot be fetched must not undo anybody's opt-out. Only a set that was
    /// asked for after the token's key was first named can say that there is no such key.
    #[test]
    fn a_key_nobody_knows_is_pending_until_a_set_asked_for_later_lacks_it() {
        let verifier = fetching();
        let at = Moment;
        assert_eq!(said(&verifier, &named("b")), Verdict::Pending, "no set has come");
        verifier.take(set("a"), at(0));
        for _ in 0..3 {
            assert_eq!(said(&verifier, &named("b")), Verdict::Pending);
            verifier.fetched();
        }
        // It was asked for before the name was seen, and may have been made before it.
        let before = verifier.moment();
        assert_eq!(said(&verifier, &named("c")), Verdict::Pending);
        verifier.take(set("a"), before);
        assert_eq!(said(&verifier, &named("c")), Verdict::Pending, "asked for no later than it was named");
        let later = at(verifier.moment().0 + 1);
        verifier.take(set("a"), later);
        for made_up in ["b", "c"] {
            assert_eq!(said(&verifier, &named(made_up)), Verdict::Refused(Token::Key), "{made_up}");
        }
        verifier.take(set("a"), at(0));
        assert_eq!(said(&verifier, &named("d")), Verdict::Pending, "a new name is another question");
    }

    /// A key that is named as before, or not at all, can be another.
    #[test]
    fn a_signature_of_no_key_is_pending_until_a_set_asked_for_later_made_it_of_none() {
        let verifier = fetching();
        verifier.take(set("a"), Moment(0));
        let nameless =
            named("a").replace(&named("a")[..named("a").find('.').unwrap()], "eyJhbGciOiJFZERTQSJ9");
        for unsigned in [named("a"), nameless] {
            assert_eq!(said(&verifier, &unsigned), Verdict::Pending, "{unsigned}");
        }
        verifier.take(set("a"), Moment(verifier.moment().0 + 1));
        assert_eq!(said(&verifier, &named("a")), Verdict::Refused(Token::Signature));
    }

    /// Threat: whoever sends made-up keys must not have the issuer asked over and over, nor undo another's opt-out.
    #[test]
    fn a_flood_of_unknown_keys_asks_once_and_refuses_nobody_too_early() {
        let verifier = fetching();
        verifier.take(set("a"), Moment(0));
        assert_eq!(said(&verifier, &named("new")), Verdict::Pending);
        let asked = verifier.asked.load(Ordering::Acquire);
        for number in 0..5_000 {
            assert_eq!(said(&verifier, &named(&format!("no-{number}"))), Verdict::Pending);
        }
        verifier.fetched();
        assert_eq!(said(&verifier, &named("new")), Verdict::Pending);
        assert_eq!(verifier.asked.load(Ordering::Acquire), asked, "once, until the pause is over");
    }

    #[test]
    fn tokens_are_found_where_the_settings_say_in_their_order() {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", "a=1; t=stale; t=; t=from.the.cookie".parse().unwrap());
        let (both, cookie) = (verifier(|_| ()), verifier(|s| s.bearer = false));
        let found = |verifier: &Verifier, headers: &HeaderMap| {
            let tokens =
                verifier.tokens(headers).map(|(_, token)| String::from_utf8_lossy(token).into_owned());
            tokens.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found(&both, &headers), "stale from.the.cookie");
        headers.insert("authorization", "bEARER  from.the.field".parse().unwrap());
        assert_eq!(found(&both, &headers), "from.the.field stale from.the.cookie");
        assert_eq!(found(&cookie, &headers), "stale from.the.cookie");
        headers.insert("authorization", "Basic YTpi".parse().unwrap());
        assert_eq!(found(&both, &headers), "stale from.the.cookie", "another scheme is no token");
        headers.insert("cookie", "t=1; t=2; t=3; t=4; t=5".parse().unwrap());
        assert_eq!(found(&both, &headers), "1 2 3 4", "and no more than that");
    }
}
