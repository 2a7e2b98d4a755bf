//! What a backup held when it was made, signed, so that one that was cut or changed since is not put in place for whole.
//!
//! What came after the last checkpoint is chained and not signed: whoever takes the end of a copy away leaves a chain that
//! fits. So a backup says where it ends.
//!
//! ```text
//! backup.signed = "optgate backup 1" LF
//!               | "journal " sequence number SP chain value in hexadecimal LF
//!               | "recipients " SHA-256 of recipients.sqlite3 in hexadecimal, or "none" LF
//!               | "signed " name of the key SP Ed25519 signature in base64, over all before LF
//! ```

use std::path::Path;
use std::{fs, io};

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest as _, Sha256};

use super::files;
use super::journal::chain::Head;
use super::recipients;
use super::signing::{PublicKey, Signer};

/// The file's name.
pub(super) const FILE: &str = "backup.signed";

const FORM: &str = "optgate backup 1";

/// What is signed of a backup.
fn text(head: &Head, folder: &Path) -> io::Result<String> {
    let recipients = match fs::read(folder.join(recipients::FILE)) {
        Ok(bytes) => HEXLOWER.encode(&Sha256::digest(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "none".to_owned(),
        Err(error) => return Err(error),
    };
    let link = HEXLOWER.encode(&head.link);
    Ok(format!("{FORM}\njournal {} {link}\nrecipients {recipients}\n", head.seq))
}

/// Writes it into a backup, whose journal ends at `head`; durable when it returns.
pub(super) fn write(folder: &Path, head: &Head, signer: &Signer) -> io::Result<()> {
    let text = text(head, folder)?;
    let (key, signature) = (signer.public().id(), signer.sign(text.as_bytes())?);
    files::put(&folder.join(FILE), format!("{text}signed {key} {}\n", BASE64.encode(&signature)).as_bytes())
}

/// Why a backup is not what it was when it was made. `head`: where its journal ends; `key`: the journal's own, by which it
/// was signed. `None`: it is, or it has no such file, as those of earlier versions.
///
/// # Errors
/// Something cannot be read.
pub(super) fn differs(folder: &Path, head: &Head, key: &PublicKey) -> io::Result<Option<String>> {
    let written = match fs::read_to_string(folder.join(FILE)) {
        Ok(written) => written,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let said = |why: &str| Ok(Some(format!("{FILE} {why}")));
    let Some((signed, line)) = written.trim_end().rsplit_once('\n') else {
        return said("cannot be understood");
    };
    let signed = format!("{signed}\n");
    let mut words = line.split(' ').skip(1);
    let (Some(by), Some(signature)) = (words.next(), words.next()) else {
        return said("cannot be understood");
    };
    let signature = BASE64.decode(signature.as_bytes()).unwrap_or_default();
    if by != key.id() || !key.verifies(signed.as_bytes(), &signature) {
        return said("does not bear the signature of the journal's key");
    }
    let now = text(head, folder)?;
    if now == signed {
        return Ok(None);
    }
    let differing = signed.lines().zip(now.lines()).find(|(then, now)| then != now);
    Ok(Some(match differing {
        Some((then, _)) if then.starts_with("recipients none") => {
            format!("{} was not in it when it was made", recipients::FILE)
        }
        Some((then, now)) if then.starts_with("recipients") => {
            let gone = now.ends_with("none");
            format!(
                "{} {}",
                recipients::FILE,
                if gone { "was in it when it was made" } else { "was changed since it was made" }
            )
        }
        Some((then, _)) if then.starts_with("journal") => {
            let had = then.split(' ').nth(1).unwrap_or_default();
            format!("its journal ends with record {}, and ended with record {had} when it was made", head.seq)
        }
        _ => format!("{FILE} is of a later version"),
    }))
}
