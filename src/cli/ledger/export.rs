//! `optgate ledger export`: every record, in order, beside a running server.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::{Failure, Global};
use crate::store::proof::Item;
use crate::store::{self, OpenError, RecordView};

/// How to print.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// One JSON object a line, CSV with a head line, or what `ledger verify --export` proves
    #[arg(long, value_enum, default_value_t, value_name = "jsonl|csv|proof")]
    pub format: Format,
    /// The records of every node, from the database that they share (jsonl or csv)
    #[arg(long)]
    pub all_nodes: bool,
}

/// Form of the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// RFC 4180, with a head line.
    Csv,
    /// Everything that proves the journal, one JSON object a line.
    Proof,
}

/// The columns, for an export without records.
const COLUMNS: [&str; 9] = ["seq", "node", "time", "site", "kind", "signal", "basis", "policy", "reference"];

/// Exports the journal of the data folder, or the records of all nodes.
///
/// # Errors
/// The settings are wrong, the journal cannot be read, or stdout cannot be written.
pub fn run(global: &Global, args: &ExportArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = super::settings(global, Vec::new(), true)?.settings;
    if args.format == Format::Proof && !args.all_nodes {
        return proof(&settings.data_dir, BufWriter::new(out));
    }
    let shared = match (&settings.store.shared, args) {
        (_, ExportArgs { all_nodes: false, .. }) => None,
        (Some(shared), ExportArgs { format: Format::Jsonl | Format::Csv, .. }) => Some(shared),
        (Some(_), _) => {
            return Err(anyhow::anyhow!(
                "a proof is of one node's journal, which only that node signs\n  next: run `optgate ledger export \
                 --format proof` on each node"
            )
            .into());
        }
        (None, _) => {
            return Err(anyhow::anyhow!(
                "this node is alone: `store.engine` is \"sqlite\"\n  next: leave --all-nodes out"
            )
            .into());
        }
    };
    let mut sheet = Sheet::new(args.format, BufWriter::new(out))?;
    written(
        |record: RecordView| sheet.row(&record),
        |each| match shared {
            Some(shared) => {
                let url = shared.read_url.as_ref().unwrap_or(&shared.url);
                if !store::export_shared(url, &settings.data_dir, each)? {
                    eprintln!(
                        "without a secret.key in {} it was not looked at whose records are that were pruned",
                        settings.data_dir.display()
                    );
                }
                Ok(())
            }
            None => store::export(&settings.data_dir, each),
        },
    )?;
    Ok(sheet.finish()?)
}

/// Reads, and writes each thing that is read. The store words every failure of its callback as the journal's, so that
/// of writing is kept aside.
fn written<T>(
    mut write: impl FnMut(T) -> std::io::Result<()>,
    read: impl FnOnce(&mut dyn FnMut(T) -> std::io::Result<()>) -> Result<(), OpenError>,
) -> Result<(), Failure> {
    let mut failed = None;
    let read = read(&mut |thing| {
        write(thing).map_err(|error| {
            let told = std::io::Error::from(error.kind());
            failed = Some(error);
            told
        })
    });
    match (failed, read) {
        (Some(error), _) => Err(error.into()),
        (None, Err(error)) => Err(anyhow::Error::new(error).context("cannot export the ledger").into()),
        (None, Ok(())) => Ok(()),
    }
}

/// Prints the counts, with a head line.
///
/// # Errors
/// As [`run`].
pub fn counts(global: &Global, out: &mut dyn Write) -> Result<(), Failure> {
    let counts = store::counts(&super::data_dir(global)?).map_err(anyhow::Error::new)?;
    let mut table = csv::WriterBuilder::new().has_headers(false).from_writer(BufWriter::new(out));
    table.write_record(["minute", "site", "signal", "basis", "policy", "state", "count"]).map_err(io)?;
    for line in counts {
        let minute = jiff::Timestamp::from_second(line.minute.saturating_mul(60));
        let minute = minute.map_or_else(|_| line.minute.to_string(), |time| format!("{time:.0}"));
        table
            .serialize((minute, line.site, line.signal, line.basis, line.policy, line.state, line.count))
            .map_err(io)?;
    }
    Ok(table.flush()?)
}

fn io(error: csv::Error) -> std::io::Error {
    error.into()
}

/// Writes the evidence, one piece a line.
fn proof(data_dir: &Path, mut out: impl Write) -> Result<(), Failure> {
    let line = |item: Item| {
        serde_json::to_writer(&mut out, &item)?;
        out.write_all(b"\n")
    };
    written(line, |each| store::evidence(data_dir, each))?;
    Ok(out.flush()?)
}

/// Rows in one of the forms.
enum Sheet<W: Write> {
    Lines(W),
    Table(Box<csv::Writer<W>>),
}

impl<W: Write> Sheet<W> {
    fn new(format: Format, out: W) -> std::io::Result<Self> {
        Ok(match format {
            Format::Jsonl | Format::Proof => Self::Lines(out),
            Format::Csv => {
                let mut table = csv::WriterBuilder::new().has_headers(false).from_writer(out);
                table.write_record(COLUMNS)?;
                Self::Table(Box::new(table))
            }
        })
    }

    fn row(&mut self, record: &RecordView) -> std::io::Result<()> {
        match self {
            Self::Lines(out) => {
                serde_json::to_writer(&mut *out, record)?;
                out.write_all(b"\n")
            }
            Self::Table(table) => Ok(table.serialize(record)?),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        let flushed = match self {
            Self::Lines(mut out) => out.flush(),
            Self::Table(mut table) => table.flush(),
        };
        flushed.context("cannot write the export")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RecordView {
        RecordView {
            seq: 7,
            node: "n1".into(),
            time_us: 1_795_464_000_000_001,
            site: "shop".into(),
            kind: "opt-out".into(),
            signal: "gpc".into(),
            basis: "gpc".into(),
            policy: "a,b".into(),
            reference: "R-1".into(),
            account: true,
        }
    }

    fn written(format: Format) -> String {
        let mut out = Vec::new();
        let mut sheet = Sheet::new(format, &mut out).unwrap();
        sheet.row(&record()).unwrap();
        sheet.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Scripts read these: exactly these fields in this order, never the subject.
    #[test]
    fn an_exported_line_holds_exactly_the_promised_fields() {
        assert_eq!(
            written(Format::Jsonl),
            "{\"seq\":7,\"node\":\"n1\",\"time\":\"2026-11-23T20:00:00.000001Z\",\"site\":\"shop\",\
             \"kind\":\"opt-out\",\"signal\":\"gpc\",\"basis\":\"gpc\",\"policy\":\"a,b\",\"reference\":\"R-1\"}\n"
        );
    }

    #[test]
    fn a_csv_export_quotes_what_needs_it_and_has_a_head_line() {
        assert_eq!(
            written(Format::Csv),
            "seq,node,time,site,kind,signal,basis,policy,reference\n\
             7,n1,2026-11-23T20:00:00.000001Z,shop,opt-out,gpc,gpc,\"a,b\",R-1\n"
        );
    }

    #[test]
    fn a_csv_export_without_records_still_has_its_head_line() {
        let mut out = Vec::new();
        Sheet::new(Format::Csv, &mut out).unwrap().finish().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), COLUMNS.join(",") + "\n");
    }
}
