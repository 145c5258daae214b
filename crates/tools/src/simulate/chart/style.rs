use svg::node::element::{Definitions, Line, Path, Pattern, Rectangle, Text, Title};

use mail_failover_core::engine::Health;

pub(super) const FONT: &str = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";
pub(super) const INK: &str = "#1a1a1a";
pub(super) const MUTED: &str = "#595959";
pub(super) const BORDER: &str = "#8c8c8c";
pub(super) const FAINT: &str = "#dcdcdc";
pub(super) const AMBER: &str = "#8a5a00";

/// Fill of a drill; its text says what it is.
pub(super) const DRILL_FILL: &str = "#ffffff";

/// Colours of Okabe and Ito, which all kinds of colour vision tell apart, lightened so that dark text can be read on
/// them.
const SHARE_FILLS: [&str; 7] = ["#9fd0ec", "#f5cf85", "#8fd3bd", "#e3b8d2", "#f2ea9a", "#a9c0dd", "#ecb293"];

/// Style of a verdict: a worse verdict is taller and denser.
pub(super) struct Look {
    pub(super) height: f64,
    pub(super) fill: &'static str,
    pub(super) stroke: &'static str,
}

pub(super) fn health_look(health: Health) -> Look {
    match health {
        Health::Healthy => Look { height: 8.0, fill: "#a8d8b0", stroke: "#4c9a5b" },
        Health::Degraded => Look { height: 14.0, fill: "url(#degraded)", stroke: "#b07a00" },
        Health::Unhealthy => Look { height: 20.0, fill: "url(#unhealthy)", stroke: "#a3261f" },
        Health::Unknown => Look { height: 12.0, fill: "url(#unknown)", stroke: "#8c8c8c" },
    }
}

/// Returns the colour for a backend's position in the fleet, or for mail that has nowhere to go.
pub(super) fn share_fill(backend: Option<usize>) -> &'static str {
    backend.map_or("url(#nowhere)", |backend| SHARE_FILLS[backend % SHARE_FILLS.len()])
}

pub(super) fn patterns(definitions: Definitions) -> Definitions {
    definitions
        .add(pattern("degraded", 8, "#fde3a7", "#c98a00", 1.2, "M-2,2 l4,-4 M0,8 l8,-8 M6,10 l4,-4"))
        .add(pattern("unhealthy", 6, "#f3aaa3", "#b3322a", 1.0, "M0,0 l6,6 M6,0 l-6,6"))
        .add(pattern("unknown", 6, "#f2f2f2", "#8c8c8c", 1.4, "M2,3 l1.4,0"))
        .add(pattern("nowhere", 7, "#ffffff", "#a3261f", 1.6, "M-2,2 l4,-4 M0,7 l7,-7 M5,9 l4,-4"))
        .add(pattern("hold", 7, "#ececf6", "#b9b9d6", 1.2, "M-2,5 l4,4 M0,0 l7,7 M5,-2 l4,4"))
}

fn pattern(id: &str, size: u8, back: &str, stroke: &str, width: f64, path: &str) -> Pattern {
    Pattern::new()
        .set("id", id)
        .set("width", size)
        .set("height", size)
        .set("patternUnits", "userSpaceOnUse")
        .add(Rectangle::new().set("width", size).set("height", size).set("fill", back))
        .add(Path::new().set("d", path).set("stroke", stroke).set("stroke-width", width).set("fill", "none"))
}

/// Rounds a coordinate to a tenth of a pixel.
// It looks the same, and files and their differences are smaller.
pub(super) fn number(of: f64) -> f64 {
    (of * 10.0).round() / 10.0
}

pub(super) fn rect(x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    Rectangle::new().set("x", number(x)).set("y", number(y)).set("width", number(width)).set("height", number(height))
}

/// Makes an area with a tooltip, wide enough to be seen however short it lasts.
pub(super) fn area(x: f64, y: f64, width: f64, height: f64, tip: &str) -> Rectangle {
    rect(x, y, width.max(1.5), height).add(Title::new(tip))
}

pub(super) fn line(x1: f64, y1: f64, x2: f64, y2: f64) -> Line {
    Line::new().set("x1", number(x1)).set("y1", number(y1)).set("x2", number(x2)).set("y2", number(y2))
}

pub(super) fn text(x: f64, y: f64, size: f64, content: &str) -> Text {
    Text::new(content).set("x", number(x)).set("y", number(y)).set("font-size", size).set("fill", INK)
}

/// Estimates the width of a text, slightly too large, because the font is not known.
pub(super) fn width(content: &str, size: f64) -> f64 {
    content.chars().map(relative_width).sum::<f64>() * size
}

/// Returns the width of a character in relation to the size of the font.
fn relative_width(char: char) -> f64 {
    match char {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | '.' | ',' | ':' | ';' | ' ' | '\'' | '(' | ')' | '-' | 'I' => 0.36,
        'm' | 'w' | 'M' | 'W' | '%' | '→' | '@' => 0.95,
        'A'..='Z' => 0.72,
        _ => 0.58,
    }
}

pub(super) fn fits(content: &str, size: f64, room: f64) -> bool {
    width(content, size) + 10.0 <= room
}

/// Cuts a text to the room that there is.
pub(super) fn shortened(content: &str, size: f64, room: f64) -> String {
    if width(content, size) <= room {
        return content.to_owned();
    }
    let mut kept = String::new();
    for char in content.chars() {
        if width(&kept, size) + size * 1.5 > room {
            break;
        }
        kept.push(char);
    }
    kept.push('…');
    kept
}
