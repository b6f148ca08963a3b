//! The table, as Markdown.

use std::{fmt::Write as _, time::SystemTime};

use crate::{
    machine::{machine, version},
    options::Options,
    peer::Peer,
    row::Row,
};

/// What it ran on, and a line for each row.
pub fn markdown(rows: &[Row], options: &Options) -> String {
    let mut table = head(options);
    table += "\n| load |";
    for peer in Peer::ALL {
        let _ = write!(table, " {} |", peer.name());
    }
    table += " fastest peer | bowshock ÷ it | in single rounds |\n|---|";
    table += &"---:|".repeat(Peer::ALL.len());
    table += "---|---:|---|\n";
    for row in rows {
        table += &line(row);
    }
    table
}

fn head(options: &Options) -> String {
    // No day has fewer than ten characters.
    let date = &humantime::format_rfc3339_seconds(SystemTime::now()).to_string()[..10];
    let versions = Peer::ALL.map(Peer::version).into_iter().chain([version("wrk", "-v")]);
    format!(
        "{}; {date}; {}. `{}`: medians of {} rounds.\n",
        machine(),
        versions.collect::<Vec<_>>().join(", "),
        options.command(),
        options.rounds()
    )
}

fn line(row: &Row) -> String {
    let mut line = format!("| {}, {} |", row.title, row.unit);
    for peer in Peer::ALL {
        let figure = row.figure(peer).map_or("–".into(), digits);
        let _ = write!(line, " {figure} |");
    }
    let comparison = row.fastest_peer().zip(row.ratio(Peer::Bowshock));
    line += &comparison.map_or(" | | |\n".into(), |(fastest, ratio)| {
        let [low, high] = ratio.range;
        format!(" {} | **{:.2}** | {low:.2} to {high:.2} |\n", fastest.name(), ratio.median)
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
