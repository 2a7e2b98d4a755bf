//! `optgate ledger verify` and `optgate ledger proof`: what the journal said, and when, proven with a public key.

use std::fs;
use std::io::{BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use data_encoding::HEXLOWER_PERMISSIVE;

use super::{Failure, Global, data_dir};
use crate::store::proof::{Inclusion, Item, Proven, Unproven, Verifier};
use crate::store::{self, PublicKey, time};

/// What to prove, and with which keys.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A file of `ledger export --format proof`; without it, the data folder's journal
    #[arg(long, value_name = "FILE", conflicts_with = "proof")]
    pub export: Option<PathBuf>,
    /// A file of `ledger proof`
    #[arg(long, value_name = "FILE")]
    pub proof: Option<PathBuf>,
    /// Also hold the journal against what was known of it: a file of `ledger proof`, or a log line's RECORD:CHAIN
    #[arg(long, value_name = "FILE|RECORD:CHAIN", conflicts_with_all = ["proof", "export"])]
    pub holds: Vec<String>,
    /// Public key to believe, as a file or in base64; repeatable. Without it, the evidence's own word is taken
    // A PEM begins with dashes.
    #[arg(long, value_name = "PUBLICKEY", allow_hyphen_values = true)]
    pub key: Vec<String>,
}

/// Whose proof.
#[derive(Debug, Args)]
pub struct ProofArgs {
    /// The record's reference, as on its receipt
    #[arg(value_name = "REFERENCE")]
    pub reference: String,
}

/// Prints the proof of one record.
///
/// # Errors
/// There is no such record, or it is not signed yet.
pub fn proof(global: &Global, args: &ProofArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let proof = store::inclusion(&data_dir(global)?, &args.reference).map_err(anyhow::Error::new)?;
    serde_json::to_writer_pretty(&mut *out, &proof).map_err(std::io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

/// Proves, and says what was proven.
///
/// # Errors
/// Something does not fit: which record or checkpoint.
pub fn run(global: &Global, args: &VerifyArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let keys = args.key.iter().map(|key| public_key(key)).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(file) = &args.proof {
        return one_record(file, &keys, out);
    }
    let verifier = Verifier::new(&keys);
    let proven = match &args.export {
        Some(file) => exported(file, verifier)?,
        None => {
            let folder = data_dir(global)?;
            // What is missing at the end of a journal, nothing in it shows.
            args.holds.iter().try_for_each(|known| holds(&folder, known, &keys))?;
            in_folder(&folder, verifier)?
        }
    };
    report(&proven, out)
}

/// Whether a folder's journal has a record with the chain value that was known of it before, and so every record up to it
/// as it was then.
fn holds(folder: &Path, known: &str, keys: &[PublicKey]) -> anyhow::Result<()> {
    let (seq, chain) = match said(known) {
        Some(said) => said,
        None => {
            let proof = inclusion(Path::new(known))?;
            proof.verify(keys).map_err(|why| not_proven(known, &why))?;
            proof.signed_head().with_context(|| format!("{known} cannot be read"))?
        }
    };
    let why = match store::chain_at(folder, seq)? {
        Some(here) if here == chain => return Ok(()),
        Some(_) => "it was another then: the journal was changed, or is another's",
        None => "it is not there: the journal lost its end, or was set back to a copy of before",
    };
    anyhow::bail!(
        "{}: not proven: record {seq} is known from {known}, and {why}. Restore the journal from a backup and keep this \
         file: it is evidence",
        folder.display()
    )
}

/// A record and its chain value, as the log has them.
fn said(known: &str) -> Option<(i64, [u8; 32])> {
    let (seq, chain) = known.split_once(':')?;
    let chain = HEXLOWER_PERMISSIVE.decode(chain.as_bytes()).ok()?;
    Some((seq.parse().ok()?, chain.try_into().ok()?))
}

fn inclusion(file: &Path) -> anyhow::Result<Inclusion> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("{name} cannot be read"))?;
    serde_json::from_str(&text).with_context(|| format!("{name} is no output of `optgate ledger proof`"))
}

/// A key in a file, or the key itself.
fn public_key(given: &str) -> anyhow::Result<PublicKey> {
    let text = match fs::read_to_string(given) {
        Ok(text) => text,
        Err(_) if PublicKey::parse(given).is_some() => given.to_owned(),
        Err(error) => {
            return Err(error).context(format!("{given} is neither a key nor a file that can be read"));
        }
    };
    PublicKey::parse(&text)
        .with_context(|| format!("{given} holds no public key; `optgate ledger key` prints one"))
}

fn in_folder(folder: &Path, mut verifier: Verifier) -> anyhow::Result<Proven> {
    let mut unproven = None;
    let read = store::evidence(folder, &mut |item| {
        verifier.take(&item).map_err(|why| {
            unproven = Some(why);
            std::io::ErrorKind::InvalidData.into()
        })
    });
    if let Some(why) = unproven {
        return Err(not_proven(&folder.display().to_string(), &why));
    }
    read?;
    verifier.finish().map_err(|why| not_proven(&folder.display().to_string(), &why))
}

fn exported(file: &Path, mut verifier: Verifier) -> anyhow::Result<Proven> {
    let name = file.display().to_string();
    let opened = fs::File::open(file).with_context(|| format!("{name} cannot be read"))?;
    for (number, line) in BufReader::new(opened).lines().enumerate() {
        let at = format!("{name}:{}", number + 1);
        let line = line.with_context(|| at.clone())?;
        let item: Item = serde_json::from_str(&line)
            .with_context(|| format!("{at}: is not a line of `optgate ledger export --format proof`"))?;
        verifier.take(&item).map_err(|why| not_proven(&at, &why))?;
    }
    let proven = verifier.finish().map_err(|why| not_proven(&name, &why))?;
    // An empty file fits together as well as any other.
    anyhow::ensure!(
        proven.records > 0,
        "{name}: not proven: it holds no record, so there is nothing to prove; was the export broken off?"
    );
    Ok(proven)
}

fn one_record(file: &Path, keys: &[PublicKey], out: &mut dyn Write) -> Result<(), Failure> {
    let name = file.display().to_string();
    let proof = inclusion(file)?;
    let (record, signed_us, key) = proof.verify(keys).map_err(|why| not_proven(&name, &why))?;
    serde_json::to_writer(&mut *out, &record).map_err(std::io::Error::from)?;
    writeln!(out)?;
    eprintln!("proven: record {} was signed at {} with key {key}", record.seq, time::shortest(signed_us));
    own_word(keys.is_empty());
    Ok(())
}

fn not_proven(what: &str, why: &Unproven) -> anyhow::Error {
    anyhow::anyhow!("{what}: not proven: {why}")
}

fn report(proven: &Proven, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "records: {}", proven.records)?;
    writeln!(out, "pruned: {}", proven.pruned)?;
    writeln!(out, "of what was done to the journal: {}", proven.upkeep)?;
    writeln!(out, "accounts kept by their hash alone: {}", proven.kept)?;
    writeln!(out, "checkpoints: {}", proven.checkpoints)?;
    writeln!(out, "signed up to record: {}", proven.signed_to)?;
    if let Some((time_us, key)) = &proven.signed_at {
        writeln!(out, "signed at: {}", time::shortest(*time_us))?;
        writeln!(out, "signed with: {key}")?;
    }
    own_word(proven.on_its_own_word);
    Ok(())
}

fn own_word(taken: bool) {
    if taken {
        eprintln!(
            "no --key was given, so the keys that it names itself were believed: it fits together, and whose it \
             is is not shown"
        );
    }
}
