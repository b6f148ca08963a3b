//! The ratios, as a picture: a line for each load, a dot for each server, on a logarithmic axis.

use std::fmt::Write as _;

use crate::{peer::Peer, row::Row};

const WIDTH: f64 = 860.0;
/// Where the axis begins and ends.
const LEFT: f64 = 270.0;
const RIGHT: f64 = WIDTH - 30.0;
/// Above the first line: the title and the legend.
const TOP: f64 = 84.0;
const LINE: f64 = 30.0;
/// Below the last line: the axis' figures.
const BOTTOM: f64 = 36.0;

/// Marks of the axis; it reaches from the first to the last one that is needed.
const MARKS: [f64; 12] = [0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0];

/// The part of the axis that is shown.
struct Axis {
    marks: Vec<f64>,
}

/// An SVG of all rows that compare.
pub fn svg(rows: &[Row]) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.fastest_peer().is_some()).collect();
    let axis = Axis::around(&rows);
    let bottom = TOP + LINE * rows.len() as f64;
    let height = bottom + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"#222\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"20\" y=\"26\" font-size=\"16\">What it takes, as a multiple of what the fastest peer takes (left is \
         better)</text>\n"
    );
    legend(&mut svg);
    grid(&mut svg, &axis, bottom);
    for (number, row) in rows.iter().enumerate() {
        line(&mut svg, &axis, row, TOP + LINE * (number as f64 + 0.5));
    }
    svg + "</svg>\n"
}

fn legend(svg: &mut String) {
    for (number, peer) in Peer::ALL.into_iter().enumerate() {
        let x = LEFT + 95.0 * number as f64;
        dot(svg, peer, x, 54.0);
        text(svg, x + 12.0, 58.5, "start", peer.name());
    }
}

fn grid(svg: &mut String, axis: &Axis, bottom: f64) {
    for &mark in &axis.marks {
        let x = axis.place(mark);
        let stroke = if mark == 1.0 { "#222" } else { "#ddd" };
        let _ = writeln!(svg, "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"{stroke}\"/>");
        text(svg, x, bottom + 20.0, "middle", &format!("{mark} ×"));
    }
}

fn line(svg: &mut String, axis: &Axis, row: &Row, y: f64) {
    text(svg, LEFT - 16.0, y + 4.5, "end", row.title);
    if let Some([low, high]) = row.ratio(Peer::Bowshock).and_then(|ratio| ratio.middle_half) {
        let [low, high] = [low, high].map(|ratio| axis.place(ratio));
        let colour = colour(Peer::Bowshock);
        let _ = writeln!(
            svg,
            "<path d=\"M{low:.1} {y}H{high:.1}\" stroke=\"{colour}\" stroke-width=\"3\" opacity=\"0.5\"/>"
        );
    }
    // Ourselves last, on top of the others.
    for peer in Peer::ALL.into_iter().rev() {
        if let Some(ratio) = row.ratio(peer) {
            dot(svg, peer, axis.place(ratio.median), y);
        }
    }
}

fn dot(svg: &mut String, peer: Peer, x: f64, y: f64) {
    let radius = if peer == Peer::Bowshock { 7 } else { 5 };
    let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"{radius}\" fill=\"{}\"/>", colour(peer));
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>");
}

/// Colours that can be told apart by people who see fewer of them (Okabe and Ito).
fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Bowshock => "#d55e00",
        Peer::Nginx => "#009e73",
        Peer::Haproxy => "#0072b2",
        Peer::H2o => "#cc79a7",
        Peer::Lighttpd => "#e69f00",
        Peer::Varnish => "#7f7f7f",
    }
}

impl Axis {
    fn around(rows: &[&Row]) -> Self {
        let ratios = rows.iter().flat_map(|row| Peer::ALL.into_iter().filter_map(|peer| row.ratio(peer)));
        let all: Vec<f64> =
            ratios.flat_map(|ratio| ratio.middle_half.into_iter().flatten().chain([ratio.median])).collect();
        let [low, high] =
            all.iter().fold([0.75, 1.5], |[low, high]: [f64; 2], ratio| [low.min(*ratio), high.max(*ratio)]);
        let first = MARKS.iter().rposition(|mark| *mark <= low).unwrap_or(0);
        let last = MARKS.iter().position(|mark| *mark >= high).unwrap_or(MARKS.len() - 1);
        Self { marks: MARKS[first..=last].to_vec() }
    }

    /// What lies beyond the marks is shown at the end.
    fn place(&self, ratio: f64) -> f64 {
        let [first, last] = [self.marks[0], self.marks[self.marks.len() - 1]];
        let share = (ratio / first).ln() / (last / first).ln();
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }
}
