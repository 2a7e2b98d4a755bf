//! The report for people, as text.

use std::io::{self, Write};

use super::figures::{FEW, MemoRate, Report, Row, Run, Side, Verdict};

/// What is often misread.
pub const NOTE: &str = "The difference of two percentiles is not a percentile of differences: the slowest hundredth of \
                        the direct requests and of the proxied ones are different requests.";

/// Writes the whole report.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "{}", environment(report))?;
    for line in subject(report) {
        writeln!(out, "{line}")?;
    }
    for run in &report.runs {
        writeln!(out)?;
        write_run(out, run)?;
    }
    writeln!(out, "\n{NOTE}")?;
    if report.runs.iter().any(has_few) {
        writeln!(out, "* Fewer than {FEW} answers lie beyond it: a longer --duration makes it surer.")?;
    }
    writeln!(out, "{}", verdict(&report.verdict))
}

/// Where it was measured, as one line.
pub fn environment(report: &Report) -> String {
    let here = &report.environment;
    let plural = if here.cores == 1 { "" } else { "s" };
    format!(
        "optgate {} ({} build), Linux {}, {}, {} core{plural}",
        here.version, here.build, here.kernel, here.cpu, here.cores
    )
}

/// What was measured, and how.
pub fn subject(report: &Report) -> [String; 2] {
    let subject = &report.subject;
    let own = if subject.own { "an Optgate of its own at " } else { "" };
    let with = match subject.headers.is_empty() {
        true => String::new(),
        false => format!(" with {}", subject.headers.join(", ")),
    };
    [
        format!(
            "GET {}{with}: direct from {}, proxied by {own}{}",
            subject.path, subject.direct, subject.proxied
        ),
        format!(
            "open loop, direct and proxied in turns; {} s a rate after {} s of warm-up; up to {} connections each",
            subject.seconds, subject.warm_up_seconds, subject.connections
        ),
    ]
}

/// What holds of it all.
pub fn verdict(verdict: &Verdict) -> String {
    if !verdict.inconclusive.is_empty() {
        return format!("inconclusive:\n  {}", verdict.inconclusive.join("\n  "));
    }
    let added = ms(verdict.added_p99_us);
    match (verdict.max_added_p99_us, verdict.within) {
        (Some(most), Some(true)) => format!("added p99: {added}, within the {} allowed", ms(most)),
        (Some(most), _) => format!("added p99: {added}, above the {} allowed", ms(most)),
        (None, _) => format!("added p99: {added}"),
    }
}

fn write_run(out: &mut impl Write, run: &Run) -> io::Result<()> {
    writeln!(
        out,
        "{} requests/s each; achieved {:.1} direct, {:.1} proxied; errors {} direct, {} proxied",
        run.rate,
        run.direct.achieved_rate,
        run.proxied.achieved_rate,
        errors(&run.direct),
        errors(&run.proxied)
    )?;
    for (name, side) in [("direct", &run.direct), ("proxied", &run.proxied)] {
        for (why, count) in &side.errors {
            writeln!(out, "  {count} x {name}: {why}")?;
        }
    }
    for (name, rows) in [("last byte", &run.last_byte), ("first byte", &run.first_byte)] {
        let head = ["direct", "proxied", "difference", "95 % interval"];
        writeln!(out, "  {name:<18} {:>12} {:>12} {:>12}   {}", head[0], head[1], head[2], head[3])?;
        for row in rows {
            let line = format!(
                "    {:<16} {:>12} {:>12} {:>12}   {}",
                percentile(row),
                ms(row.direct_us),
                ms(row.proxied_us),
                signed_ms(row.difference_us),
                interval(row)
            );
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    for (name, text) in facts(run) {
        writeln!(out, "  {name:<18} {text}")?;
    }
    Ok(())
}

/// What else is to be said of a rate: names and texts.
pub fn facts(run: &Run) -> Vec<(&'static str, String)> {
    let cpu = match &run.cpu {
        None => "n/a (--pid says which process is measured)".to_owned(),
        Some(cpu) if cpu.user_us.is_nan() => format!("{:.1} us a request", cpu.us_per_request),
        Some(cpu) => format!(
            "{:.1} us a request (user {:.1}, system {:.1})",
            cpu.us_per_request, cpu.user_us, cpu.system_us
        ),
    };
    let memory = run
        .resident_bytes
        .map_or_else(|| "n/a".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / 1_048_576.0));
    let memo = match &run.memo {
        None => "n/a (not among Optgate's metrics)".to_owned(),
        Some(MemoRate { hit_percent: None, .. }) => "not used".to_owned(),
        Some(MemoRate { hit_percent: Some(percent), hits, misses }) => {
            format!("{percent:.1} % known ({hits} of {})", hits + misses)
        }
    };
    let saved = |bytes: f64| match bytes {
        bytes if bytes >= 0.0 => format!("{bytes:.0} saved"),
        bytes => format!("{:.0} added", -bytes),
    };
    let bytes = format!(
        "in {:.0} direct, {:.0} proxied ({}); of that bodies {:.0} and {:.0} ({}); out {:.0} and {:.0}",
        run.direct.wire_bytes_received,
        run.proxied.wire_bytes_received,
        saved(run.wire_bytes_saved),
        run.direct.body_bytes,
        run.proxied.body_bytes,
        saved(run.body_bytes_saved),
        run.direct.wire_bytes_sent,
        run.proxied.wire_bytes_sent
    );
    let lag = format!(
        "p50 {}, p99 {}, max {}; {:.2} % more than 1 ms late",
        ms(run.lag.p50_us),
        ms(run.lag.p99_us),
        ms(run.lag.max_us),
        run.lag.late_percent
    );
    let control = format!(
        "direct p50 {}, then {}: {:.1} % apart",
        ms(run.control.first_half_us),
        ms(run.control.second_half_us),
        run.control.drift_percent
    );
    vec![
        ("proxy's CPU", cpu),
        ("proxy's memory", memory),
        ("bytes a request", bytes),
        ("rewrite memo", memo),
        ("sender's lag", lag),
        ("halves", control),
    ]
}

/// A row's name, marked where little lies beyond it.
pub fn percentile(row: &Row) -> String {
    format!("{}{}", row.percentile, if is_few(row) { "*" } else { "" })
}

/// A row's interval.
pub fn interval(row: &Row) -> String {
    row.interval_us
        .map_or_else(String::new, |[low, high]| format!("{} to {}", signed_ms(low), signed_ms(high)))
}

/// Whether a row's percentile rests on few answers.
fn is_few(row: &Row) -> bool {
    row.beyond < FEW && row.interval_us.is_some()
}

/// Whether any percentile of a run does.
pub fn has_few(run: &Run) -> bool {
    run.last_byte.iter().chain(&run.first_byte).any(is_few)
}

/// Failed requests of one side.
pub fn errors(side: &Side) -> u64 {
    side.errors.values().sum()
}

/// Milliseconds of microseconds.
pub fn ms(us: f64) -> String {
    format!("{:.3} ms", us / 1_000.0)
}

/// The same with its sign.
pub fn signed_ms(us: f64) -> String {
    format!("{:+.3} ms", us / 1_000.0)
}
