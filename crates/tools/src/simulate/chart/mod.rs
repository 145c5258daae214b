//! Timeline as a drawing for a review: the events, the health of every backend, and the shares and holds of every route
//! over one axis of time.
//!
//! The drawing is SVG, dark on white. No meaning hangs on colour alone: health also differs in height and pattern,
//! areas have labels where there is room, and every area has its text as a tooltip.

mod axis;
mod lanes;
mod style;

use svg::Document;
use svg::node::element::{Definitions, Group, Rectangle};

use self::axis::Axis;
use self::lanes::{Mark, TimeSpan, drills, events, health, holds, marks, shares, storms};
use self::style::{
    AMBER, BORDER, DRILL_FILL, FAINT, FONT, INK, MUTED, area, fits, health_look, line, number, patterns, rect,
    share_fill, shortened, text,
};
use super::run::{Simulation, SimulationResult};
use super::words::length;
use mail_failover_core::engine::Health;

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 24.0;
const EVENT_ROW: f64 = 22.0;
const HEALTH_ROW: f64 = 26.0;
const SHARES: f64 = 72.0;
const HOLDS: f64 = 18.0;
const LIST_ROW: f64 = 17.0;
/// Height of a row of numbers of transitions, and the least width of a number.
const NUMBER_ROW: f64 = 16.0;
const NUMBER_WIDTH: f64 = 14.0;
/// Longest list of transitions; beyond it the table is the place to look.
const MAX_LISTED: usize = 40;

/// Draws a simulation as SVG.
pub fn chart(simulation: &Simulation, outcome: &SimulationResult) -> String {
    let mut drawing = Drawing {
        simulation,
        axis: Axis::new(simulation.start, simulation.end, LEFT, WIDTH - RIGHT),
        back: Group::new(),
        front: Group::new(),
        y: 0.0,
    };
    drawing.heading();
    let storms = storms(simulation, outcome);
    let top = drawing.y;
    if !storms.is_empty() {
        drawing.y += 10.0;
    }
    drawing.events(&events(simulation, outcome));
    drawing.health(outcome);
    let mut listed = vec![];
    for route in 0..simulation.fleet.routes.len() {
        drawing.route(outcome, route, &mut listed);
    }
    drawing.time(top, &storms);
    drawing.list(&listed);
    drawing.legend();
    let height = drawing.y.ceil();
    let document = Document::new()
        .set("viewBox", (0, 0, number(WIDTH), number(height)))
        .set("width", number(WIDTH))
        .set("height", number(height))
        .set("font-family", FONT)
        .set("role", "img")
        .add(svg::node::element::Title::new(simulation.title.as_str()))
        .add(patterns(Definitions::new()))
        .add(rect(0.0, 0.0, WIDTH, height).set("fill", "#ffffff"))
        .add(drawing.back)
        .add(drawing.front);
    format!("{document}\n")
}

struct Drawing<'a> {
    simulation: &'a Simulation,
    axis: Axis,
    /// Background group: the grid and the storms.
    back: Group,
    front: Group,
    /// Lower edge of what is drawn so far.
    y: f64,
}

impl Drawing<'_> {
    fn add(&mut self, node: impl svg::Node) {
        let front = std::mem::take(&mut self.front);
        self.front = front.add(node);
    }

    fn add_behind(&mut self, node: impl svg::Node) {
        let back = std::mem::take(&mut self.back);
        self.back = back.add(node);
    }

    fn heading(&mut self) {
        let simulation = self.simulation;
        self.add(text(20.0, 34.0, 20.0, &simulation.title).set("font-weight", "bold"));
        let about = format!(
            "simulated by mail-failover · {} from {} · seed {} · observed by {}",
            length(simulation.duration()),
            simulation.start,
            simulation.seed,
            simulation.observers.join(", ")
        );
        self.add(text(20.0, 54.0, 12.0, &about).set("fill", MUTED));
        self.y = 66.0;
        for warning in &simulation.warnings {
            for (at, part) in wrapped(warning, 170).into_iter().enumerate() {
                let mark = if at == 0 { "! " } else { "  " };
                self.add(text(20.0, self.y + 10.0, 11.0, &format!("{mark}{part}")).set("fill", AMBER));
                self.y += 15.0;
            }
        }
        self.y += 8.0;
    }

    /// Draws the events in as few rows as their texts need.
    fn events(&mut self, spans: &[TimeSpan<String>]) {
        let mut rows: Vec<f64> = vec![];
        let top = self.y;
        for span in spans {
            let (from, until) = (self.axis.x(span.from), self.axis.x(span.until));
            let width = style::width(&span.what, 11.0) + 10.0;
            let (within, after, before) = (until - from, self.axis.right - until, from - self.axis.left);
            // In its bar, or beside it where it is longer: after it, or before it at the right edge. Where it fits
            // nowhere it is cut, in the largest of the three; the tooltip has all of it.
            let room = [within, after, before].into_iter().find(|room| *room >= width);
            let room = room.unwrap_or_else(|| within.max(after).max(before));
            let label = shortened(&span.what, 11.0, room - 10.0);
            let width = style::width(&label, 11.0) + 10.0;
            let is_room = |of: f64| of.total_cmp(&room).is_eq();
            let (start, text_x) = if is_room(within) {
                (from, from + 5.0)
            } else if is_room(after) {
                (from, until + 5.0)
            } else {
                (from - width, from - width + 5.0)
            };
            let end = until.max(text_x + width);
            let row = rows.iter().position(|taken| *taken <= start).unwrap_or_else(|| {
                rows.push(0.0);
                rows.len() - 1
            });
            rows[row] = end + 6.0;
            let y = top + EVENT_ROW * f64_of(row);
            let bar = area(from, y, until - from, EVENT_ROW - 5.0, &span.what);
            self.add(bar.set("fill", "#dfe6ee").set("stroke", "#8093a8"));
            self.add(text(text_x, y + 12.5, 11.0, &label));
        }
        if !rows.is_empty() {
            self.label(top + 12.0, "what happens", true);
            self.y += EVENT_ROW * f64_of(rows.len()) + 10.0;
        }
    }

    fn health(&mut self, outcome: &SimulationResult) {
        for backend in 0..self.simulation.fleet.backends.len() {
            let (y, middle) = (self.y, self.y + HEALTH_ROW / 2.0);
            let name = self.simulation.fleet.backend_name(backend);
            self.label(middle + 4.0, &name, false);
            let baseline = line(self.axis.left, middle, self.axis.right, middle).set("stroke", FAINT);
            self.add(baseline);
            for span in health(self.simulation, outcome, backend) {
                let (from, until) = (self.axis.x(span.from), self.axis.x(span.until));
                let look = health_look(span.what.health);
                let tip = format!(
                    "{name}: {} {} from {}",
                    span.what.health.as_str(),
                    span.what.text,
                    self.simulation.after(span.from)
                );
                let drawn = area(from, y + (HEALTH_ROW - look.height) / 2.0, until - from, look.height, &tip)
                    .set("fill", look.fill)
                    .set("stroke", look.stroke);
                self.add(drawn);
                if span.what.is_suspended {
                    let box_ = rect(from, y + 3.0, until - from, HEALTH_ROW - 6.0).set("fill", "none");
                    self.add(box_.set("stroke", INK).set("stroke-width", 1.2).set("stroke-dasharray", "4 3"));
                }
                let texts = [&span.what.text, &span.what.word];
                if let Some(fitting) = texts.into_iter().find(|text| !text.is_empty() && fits(text, 10.5, until - from))
                {
                    self.halo(from + 6.0, middle + 3.5, fitting);
                }
            }
            self.y += HEALTH_ROW;
        }
        self.y += 14.0;
    }

    /// Draws a text that can be read on a pattern.
    // Twice, because not every viewer of SVG knows `paint-order`.
    fn halo(&mut self, x: f64, y: f64, content: &str) {
        let halo = text(x, y, 10.5, content).set("stroke", "#ffffff").set("stroke-width", 3).set("fill", "#ffffff");
        self.add(halo.set("stroke-linejoin", "round").set("aria-hidden", "true"));
        self.add(text(x, y, 10.5, content));
    }

    fn route(&mut self, outcome: &SimulationResult, route: usize, listed: &mut Vec<String>) {
        let name = self.simulation.fleet.route_name(route);
        let marks = marks(outcome, route);
        let numbers = numbers(&self.axis, &marks, listed.len() + 1);
        // Room for the numbers of transitions above the lane.
        let rows = numbers.iter().map(|number| number.row + 1).max().unwrap_or(1);
        self.y += NUMBER_ROW * f64_of(rows);
        let y = self.y;
        self.label(y + SHARES / 2.0, &name, true);
        self.label(y + SHARES / 2.0 + 14.0, "where its mail goes", false);
        self.label(y + SHARES + HOLDS / 2.0 + 5.0, "held by", false);
        let frame = rect(self.axis.left, y, self.axis.right - self.axis.left, SHARES)
            .set("fill", "#ffffff")
            .set("stroke", BORDER);
        self.add(frame);
        for span in shares(self.simulation, outcome, route) {
            let (from, until) = (self.axis.x(span.from), self.axis.x(span.until));
            let mut above = 0.0;
            for part in &span.what {
                let height = SHARES * f64::from(part.percent) / 100.0;
                let percent = part.percent;
                let tip = format!("{percent} % {} from {}", part.name, self.simulation.after(span.from));
                let fill = share_fill(part.backend);
                let drawn =
                    area(from, y + above, until - from, height, &tip).set("fill", fill).set("stroke", "#ffffff");
                self.add(drawn.set("stroke-width", 0.5));
                let label = if percent == 100 { part.name.clone() } else { format!("{} {percent} %", part.name) };
                if height >= 13.0 && fits(&label, 10.5, until - from) {
                    self.halo(from + 6.0, y + above + height / 2.0 + 4.0, &label);
                }
                above += height;
            }
        }
        for span in holds(self.simulation, outcome, route) {
            let (from, until) = (self.axis.x(span.from), self.axis.x(span.until));
            let tip = format!("{} from {}", span.what, self.simulation.after(span.from));
            let drawn = area(from, y + SHARES + 3.0, until - from, HOLDS - 4.0, &tip)
                .set("fill", "url(#hold)")
                .set("stroke", "#6b6b8f")
                .set("stroke-width", 0.8);
            self.add(drawn);
            if fits(&span.what, 10.0, until - from) {
                self.halo(from + 5.0, y + SHARES + HOLDS - 5.0, &span.what);
            }
        }
        for span in drills(self.simulation, outcome, route) {
            let (from, until) = (self.axis.x(span.from), self.axis.x(span.until));
            let tip = format!("{} from {}", span.what, self.simulation.after(span.from));
            let drawn = area(from, y + SHARES + 3.0, until - from, HOLDS - 4.0, &tip).set("fill", DRILL_FILL);
            self.add(drawn.set("stroke", INK).set("stroke-width", 0.8).set("class", "drill"));
            // Mostly too short for its text, which then stands beside it.
            let width = style::width(&span.what, 10.0) + 10.0;
            let beside = if self.axis.right - until >= width { until + 5.0 } else { from - width + 5.0 };
            let x = if fits(&span.what, 10.0, until - from) { from + 5.0 } else { beside };
            self.halo(x, y + SHARES + HOLDS - 5.0, &span.what);
        }
        for mark in &marks {
            let x = self.axis.x(mark.at);
            listed.push(format!("{}  {name}: {}", self.simulation.after(mark.at), mark.text));
            self.add(line(x, y - 4.0, x, y + SHARES).set("stroke", INK).set("stroke-width", 1.4));
        }
        for Number { x, left, width, row, label } in &numbers {
            let middle = y - NUMBER_ROW * f64_of(*row) - 9.0;
            self.add(line(*x, middle, *x, y).set("stroke", INK).set("stroke-width", 1.4));
            let pill = rect(*left, middle - 7.0, *width, 14.0).set("rx", 7).set("fill", INK);
            self.add(pill);
            let digits = text(left + width / 2.0, middle + 3.4, 9.5, label).set("text-anchor", "middle");
            self.add(digits.set("fill", "#ffffff").set("font-weight", "bold").set("class", "transition"));
        }
        self.y += SHARES + HOLDS + 12.0;
    }

    fn time(&mut self, top: f64, storms: &[TimeSpan<()>]) {
        let bottom = self.y - 6.0;
        for span in storms {
            let (from, until) = (self.axis.x(span.from), self.axis.x(span.until));
            let band = area(from, top - 4.0, until - from, bottom - top + 4.0, "storm: everything fails at once");
            self.add_behind(band.set("fill", "#fff1c9"));
            self.add(text(from + 2.0, top + 1.0, 10.5, "storm").set("fill", AMBER).set("font-weight", "bold"));
        }
        for (at, label) in self.axis.ticks() {
            let x = self.axis.x(at);
            self.add_behind(line(x, top - 4.0, x, bottom).set("stroke", FAINT));
            self.add(line(x, bottom, x, bottom + 5.0).set("stroke", INK));
            self.add(text(x, bottom + 17.0, 11.0, &label).set("text-anchor", "middle"));
        }
        self.add(line(self.axis.left, bottom, self.axis.right, bottom).set("stroke", INK));
        self.add(text(self.axis.left - 34.0, bottom + 17.0, 11.0, "time").set("text-anchor", "end").set("fill", MUTED));
        self.y = bottom + 34.0;
    }

    fn list(&mut self, listed: &[String]) {
        let left = self.axis.left;
        if listed.is_empty() {
            self.add(text(left, self.y + 10.0, 11.0, "No route moves.").set("fill", MUTED));
            self.y += LIST_ROW;
        }
        let listed_count = listed.len().min(MAX_LISTED);
        // Long lists go in two columns.
        let columns = if listed_count > 6 { 2 } else { 1 };
        let rows = listed_count.div_ceil(columns);
        let column_width = (self.axis.right - left) / f64_of(columns);
        for (at, entry) in listed.iter().take(MAX_LISTED).enumerate() {
            let (x, y) = (left + column_width * f64_of(at / rows), self.y + LIST_ROW * f64_of(at % rows) + 10.0);
            let number = (at + 1).to_string();
            self.add(text(x + 12.0, y, 11.0, &number).set("text-anchor", "end").set("font-weight", "bold"));
            self.add(text(x + 20.0, y, 11.0, &shortened(entry, 11.0, column_width - 30.0)));
        }
        self.y += LIST_ROW * f64_of(rows);
        if let Some(more) = listed.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
            self.add(text(left, self.y + 10.0, 11.0, &format!("and {more} more")).set("fill", MUTED));
            self.y += LIST_ROW;
        }
        self.y += 8.0;
    }

    fn legend(&mut self) {
        let mut x = self.axis.left;
        let y = self.y;
        for health in [Health::Healthy, Health::Degraded, Health::Unhealthy, Health::Unknown] {
            let look = health_look(health);
            let sample: Rectangle = rect(x, y + (20.0 - look.height) / 2.0, 34.0, look.height);
            self.add(sample.set("fill", look.fill).set("stroke", look.stroke));
            self.add(text(x + 40.0, y + 14.0, 11.0, health.as_str()));
            x += 52.0 + style::width(health.as_str(), 11.0) + 14.0;
        }
        self.add(rect(x, y + 4.0, 34.0, 12.0).set("fill", "url(#hold)").set("stroke", "#6b6b8f"));
        self.add(text(x + 40.0, y + 14.0, 11.0, "held"));
        x += 90.0;
        let dashed = rect(x, y, 34.0, 20.0).set("fill", "none").set("stroke", INK).set("stroke-dasharray", "4 3");
        self.add(dashed.set("stroke-width", 1.2));
        self.add(text(x + 40.0, y + 14.0, 11.0, "suspended"));
        x += 124.0;
        self.add(rect(x, y + 4.0, 34.0, 12.0).set("fill", share_fill(None)).set("stroke", BORDER));
        self.add(text(x + 40.0, y + 14.0, 11.0, "mail with nowhere to go"));
        x += 54.0 + style::width("mail with nowhere to go", 11.0);
        self.add(rect(x, y + 4.0, 34.0, 12.0).set("fill", DRILL_FILL).set("stroke", INK));
        self.add(text(x + 40.0, y + 14.0, 11.0, "drill"));
        self.y += 34.0;
    }

    fn label(&mut self, y: f64, content: &str, is_bold: bool) {
        let label =
            text(self.axis.left - 12.0, y, 12.0, &shortened(content, 12.0, LEFT - 24.0)).set("text-anchor", "end");
        if is_bold { self.add(label.set("font-weight", "bold")) } else { self.add(label) }
    }
}

/// Number of a transition above its line, or the numbers of several whose lines are too close for one each.
struct Number {
    /// Coordinate of the line of the first of them.
    x: f64,
    /// Left edge, inside the axis.
    left: f64,
    width: f64,
    /// Row above the lane; 0 is the lowest.
    row: usize,
    label: String,
}

/// Places the numbers of marks, counted from `first`, so that none lies on another one.
fn numbers(axis: &Axis, marks: &[Mark], first: usize) -> Vec<Number> {
    let mut groups: Vec<(f64, usize, usize)> = vec![];
    for (index, mark) in marks.iter().enumerate() {
        let x = axis.x(mark.at);
        match groups.last_mut() {
            Some((start, _, last)) if x - *start < NUMBER_WIDTH => *last = first + index,
            Some(_) | None => groups.push((x, first + index, first + index)),
        }
    }
    let mut rows: Vec<f64> = vec![];
    let mut placed = vec![];
    for (x, from, to) in groups {
        let label = if from == to { from.to_string() } else { format!("{from}–{to}") };
        let width = (style::width(&label, 9.5) + 8.0).max(NUMBER_WIDTH);
        let left = (x - width / 2.0).clamp(axis.left, axis.right - width);
        let row = rows.iter().position(|taken| taken + 2.0 <= left).unwrap_or(rows.len());
        if row == rows.len() {
            rows.push(0.0);
        }
        rows[row] = left + width;
        placed.push(Number { x, left, width, row, label });
    }
    placed
}

/// Breaks a text between words into lines of at most this many characters.
fn wrapped(content: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in content.split(' ') {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + word.chars().count() >= width {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

/// Converts a count to a coordinate.
fn f64_of(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
