//! The report as one HTML file: nothing is loaded, no script is needed.

use askama::Template;

use super::figures::{FEW, Point, Report, Run};
use super::text;

/// Size of a plot, in its own units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
/// Room for the words around it.
const LEFT: f64 = 70.0;
const BELOW: f64 = 40.0;
const ABOVE: f64 = 10.0;
const RIGHT: f64 = 20.0;

/// The page.
#[derive(Template)]
#[template(path = "report.html", config = "src/cli/bench/pages/askama.toml")]
struct Page<'a> {
    environment: String,
    subject: [String; 2],
    verdict: String,
    inconclusive: bool,
    note: &'static str,
    few: Option<u64>,
    runs: Vec<Shown<'a>>,
}

/// One rate.
struct Shown<'a> {
    run: &'a Run,
    plot: Option<Plot>,
    tables: [(&'static str, Vec<[String; 5]>); 2],
    facts: Vec<(&'static str, String)>,
}

/// Both distributions: to the right each nine of the percentile takes as much room as the one before, upwards each
/// tenfold time does.
struct Plot {
    width: f64,
    height: f64,
    direct: String,
    proxied: String,
    /// Marks below: place and word.
    below: Vec<(String, String)>,
    /// Marks at the left.
    left: Vec<(String, String)>,
    frame: [String; 4],
}

/// Renders the page.
///
/// # Errors
/// As the template says.
pub fn page(report: &Report) -> anyhow::Result<String> {
    let shown = |run| {
        let rows = |rows: &[super::figures::Row]| {
            let cells = |row: &super::figures::Row| {
                let (direct, proxied) = (text::ms(row.direct_us), text::ms(row.proxied_us));
                let difference = text::signed_ms(row.difference_us);
                [text::percentile(row), direct, proxied, difference, text::interval(row)]
            };
            rows.iter().map(cells).collect::<Vec<_>>()
        };
        let tables = |run: &Run| {
            [("To the last byte", rows(&run.last_byte)), ("To the first byte", rows(&run.first_byte))]
        };
        Shown { run, plot: Plot::of(&run.distribution), tables: tables(run), facts: text::facts(run) }
    };
    let page = Page {
        environment: text::environment(report),
        subject: text::subject(report),
        verdict: text::verdict(&report.verdict),
        inconclusive: !report.verdict.inconclusive.is_empty(),
        note: text::NOTE,
        few: report.runs.iter().any(text::has_few).then_some(FEW),
        runs: report.runs.iter().map(shown).collect(),
    };
    Ok(page.render()?)
}

impl Plot {
    /// `None`: there is nothing to show.
    fn of(points: &[Point]) -> Option<Self> {
        let times = || points.iter().flat_map(|point| [point.direct_us, point.proxied_us]);
        // A clock's smallest step, so that there is a logarithm.
        let least = times().fold(f64::MAX, f64::min).max(0.001);
        let most = times().fold(least, f64::max);
        let (low, high) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
        let nines = nines(points.last()?.percentile);
        let across = |percentile: f64| place(LEFT + self::nines(percentile) / nines * (WIDTH - LEFT - RIGHT));
        let up = |us: f64| {
            let share = (us.max(0.001).log10() - low) / (high - low);
            place(HEIGHT - BELOW - share * (HEIGHT - BELOW - ABOVE))
        };
        let line = |time: fn(&Point) -> f64| {
            let pairs =
                points.iter().map(|point| format!("{},{}", across(point.percentile), up(time(point))));
            pairs.collect::<Vec<_>>().join(" ")
        };
        let marks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
        let below = marks.into_iter().filter(|mark| self::nines(*mark) <= nines + 1e-9);
        let left = (low as i32..=high as i32).map(|power| {
            let us = 10f64.powi(power);
            (up(us), if power < 3 { format!("{us} us") } else { format!("{} ms", us / 1_000.0) })
        });
        let frame = [LEFT, WIDTH - RIGHT, ABOVE, HEIGHT - BELOW].map(place);
        Some(Self {
            width: WIDTH,
            height: HEIGHT,
            direct: line(|point| point.direct_us),
            proxied: line(|point| point.proxied_us),
            below: below.map(|mark| (across(mark), format!("{mark} %"))).collect(),
            left: left.collect(),
            frame,
        })
    }
}

/// How many nines a percentile has: 0 for 0, 1 for 90, 2 for 99.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-9).log10()
}

fn place(at: f64) -> String {
    format!("{at:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plots_lines_lie_within_its_frame_and_nines_lie_evenly() {
        let point = |percentile, direct_us, proxied_us| Point { percentile, direct_us, proxied_us };
        let points = [point(0.0, 100.0, 150.0), point(90.0, 200.0, 1_000.0), point(99.0, 900.0, 10_000.0)];
        let plot = Plot::of(&points).unwrap();
        assert_eq!(plot.direct.split(' ').next(), Some("70.0,260.0"), "the least time at the bottom left");
        assert_eq!(plot.proxied.split(' ').next_back(), Some("700.0,10.0"), "the longest at the top right");
        assert_eq!(
            plot.proxied.split(' ').nth(1),
            Some("385.0,135.0"),
            "90 half way to 99, 1 ms half way to 10"
        );
        assert_eq!(
            plot.left.iter().map(|(_, word)| word.as_str()).collect::<Vec<_>>(),
            ["100 us", "1 ms", "10 ms"]
        );
        assert!(Plot::of(&[]).is_none());
    }
}
