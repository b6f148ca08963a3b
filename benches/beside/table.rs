//! The table, as Markdown.

use std::{fmt::Write as _, time::SystemTime};

use crate::{
    machine::{machine, version},
    options::Options,
    peer::Peer,
    row::Row,
};

/// What one has to know to read it.
const REMARKS: &str = "
CPU of all threads and processes of a server, user and system. Each server has one thread or one process (two where it is
said), is warm, and keeps connections to clients (TCP) and to the application (a unix socket); but bowshock sends each
upload on a new one, and lighttpd each request. Uploads are passed on while they come in (nginx: `proxy_request_buffering
off`), except by h2o, which takes them whole first. An idle connection has had one proxied answer. Reloads: three in each
run, while 2,000 requests a second come at their times, nine of ten on connections that are kept; latencies count from
those times, so what is sent late adds to them. Ratios are medians of those of single rounds.
";

/// What it ran on, and a line for each row.
pub fn markdown(rows: &[Row], options: &Options) -> String {
    let mut table = head(options);
    table += "\n| load |";
    for peer in Peer::ALL {
        let _ = write!(table, " {} |", peer.name());
    }
    table += " fastest peer | bowshock ÷ it | half of the rounds between |\n|---|";
    table += &"---:|".repeat(Peer::ALL.len());
    table += "---|---:|---|\n";
    for row in rows {
        table += &line(row);
    }
    table + REMARKS
}

fn head(options: &Options) -> String {
    // No day has fewer than ten characters.
    let date = &humantime::format_rfc3339_seconds(SystemTime::now()).to_string()[..10];
    let versions = Peer::ALL.map(Peer::version).into_iter().chain([version("wrk", "-v")]);
    let rounds = match (options.rounds(), options.long_rounds()) {
        (1, 1) => "one round".into(),
        (rounds, long) => format!("medians of {rounds} rounds, of {long} for idle connections and reloads"),
    };
    let versions = versions.collect::<Vec<_>>().join(", ");
    format!("{}; {date}; {versions}. `{}`: {rounds}.\n", machine(), options.command())
}

fn line(row: &Row) -> String {
    let mut line = format!("| {}, {} |", row.title, row.unit);
    for peer in Peer::ALL {
        let figure = row.figure(peer).map_or("–".into(), digits);
        let _ = write!(line, " {figure} |");
    }
    let comparison = row.fastest_peer().zip(row.ratio(Peer::Bowshock));
    line += &comparison.map_or(" | | |\n".into(), |(fastest, ratio)| {
        let between =
            ratio.middle_half.map_or(String::new(), |[low, high]| format!("{low:.2} and {high:.2}"));
        format!(" {} | **{:.2}** | {between} |\n", fastest.name(), ratio.median)
    });
    line
}

/// With three digits that mean something.
fn digits(figure: f64) -> String {
    match figure {
        figure if figure == 0.0 || figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 10.0 => format!("{figure:.1}"),
        figure if figure >= 1.0 => format!("{figure:.2}"),
        figure => format!("{figure:.3}"),
    }
}
