//! Why TLS with an origin failed, in an operator's words.

use std::io;

use rustls::CertificateError as Bad;

/// The same failure, saying what to do where that is known; any other as the library says it. `name`: whom the
/// certificate must be for.
pub(super) fn in_words(error: io::Error, name: &str) -> io::Error {
    let Some(refused) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return error;
    };
    let words = match refused {
        rustls::Error::InvalidCertificate(bad) => of_certificate(bad, name),
        rustls::Error::InvalidMessage(_) => {
            Some("what it sent is not TLS: if it speaks plain HTTP, write its URL with http://".to_owned())
        }
        rustls::Error::AlertReceived(alert) => {
            Some(format!("it refused the handshake with the alert {alert:?}"))
        }
        _ => None,
    };
    match words {
        Some(words) => io::Error::new(error.kind(), words),
        None => error,
    }
}

fn of_certificate(bad: &Bad, name: &str) -> Option<String> {
    let words = match bad {
        Bad::Expired | Bad::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            "its certificate is not valid yet, by this machine's clock".to_owned()
        }
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => format!(
            "its certificate is not for {name}: connect by a name that it holds, or write that name as the upstream's \
             `host`"
        ),
        Bad::UnknownIssuer | Bad::BadSignature => {
            "its certificate was signed by nobody who is trusted here: name the \
             roots that signed it as the upstream's `roots`"
                .to_owned()
        }
        _ => return None,
    };
    Some(words)
}
