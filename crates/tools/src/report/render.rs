//! Forms of a page: Markdown, and HTML without references to anything else. Pure.

use std::fmt::Write as _;

use super::page::Block;
use mail_failover_core::model::text::visible;

/// Renders a page as Markdown.
pub(super) fn markdown(page: &[Block]) -> String {
    let mut text = String::new();
    for block in page {
        // Writing to a String cannot fail.
        let _ = match block {
            Block::Title(title) => writeln!(text, "# {}\n", plain(title)),
            Block::Heading(heading) => writeln!(text, "## {}\n", plain(heading)),
            Block::Paragraph(paragraph) => writeln!(text, "{}\n", plain(paragraph)),
            Block::List(points) => {
                for point in points {
                    let _ = writeln!(text, "- {}", plain(point));
                }
                writeln!(text)
            }
            Block::Table { head, rows, left_out: _ } => {
                let _ = writeln!(text, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
                for row in rows {
                    let cells: Vec<_> = row.iter().map(|cell| plain(cell)).collect();
                    let _ = writeln!(text, "| {} |", cells.join(" | "));
                }
                writeln!(text)
            }
        };
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// Escapes what Markdown would take for markup.
// Names of objects and replies of servers are anybody's.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for char in visible(text).chars() {
        if "\\`*_[]<>|#".contains(char) {
            plain.push('\\');
        }
        plain.push(char);
    }
    plain
}

const STYLE: &str = "body{font:14px/1.45 Helvetica,Arial,sans-serif;color:#1a1a1a;max-width:72em;margin:2em auto;padding:0 1em}\
h1{font-size:24px}h2{font-size:17px;margin-top:2em;border-bottom:1px solid #8c8c8c}\
table{border-collapse:collapse;width:100%}th,td{border:1px solid #c8c8c8;padding:4px 8px;text-align:left;vertical-align:top}\
th{background:#eef1f5}tr{page-break-inside:avoid}td.Missed{background:#f3aaa3}td.AtRisk{background:#fde3a7}td.Met{background:#d3ead7}";

/// Renders a page as HTML.
pub(super) fn html(page: &[Block]) -> String {
    let title = page.iter().find_map(|block| match block {
        Block::Title(title) => Some(escaped(title)),
        Block::Heading(_) | Block::Paragraph(_) | Block::List(_) | Block::Table { .. } => None,
    });
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{}</title><style>{STYLE}</style></head>\n<body>\n",
        title.unwrap_or_default()
    );
    for block in page {
        // Writing to a String cannot fail.
        let _ = match block {
            Block::Title(title) => writeln!(text, "<h1>{}</h1>", escaped(title)),
            Block::Heading(heading) => writeln!(text, "<h2>{}</h2>", escaped(heading)),
            Block::Paragraph(paragraph) => writeln!(text, "<p>{}</p>", escaped(paragraph)),
            Block::List(points) => {
                let items = tagged("li", points);
                writeln!(text, "<ul>{items}</ul>")
            }
            Block::Table { head, rows, left_out: _ } => {
                let head = tagged("th", head);
                let _ = writeln!(text, "<table>\n<tr>{head}</tr>");
                for row in rows {
                    let cells: String = row.iter().map(|cell| self::cell(cell)).collect();
                    let _ = writeln!(text, "<tr>{cells}</tr>");
                }
                writeln!(text, "</table>")
            }
        };
    }
    text + "</body>\n</html>\n"
}

/// Wraps each text in an element of its own.
fn tagged<S: AsRef<str>>(tag: &str, texts: &[S]) -> String {
    texts.iter().fold(String::new(), |mut all, text| {
        // Writing to a String cannot fail.
        let _ = write!(all, "<{tag}>{}</{tag}>", escaped(text.as_ref()));
        all
    })
}

fn cell(content: &str) -> String {
    // No meaning hangs on colour alone: the cell has the word.
    match content {
        "Missed" | "AtRisk" | "Met" => format!("<td class=\"{content}\">{content}</td>"),
        other => format!("<td>{}</td>", escaped(other)),
    }
}

fn escaped(text: &str) -> String {
    let text = visible(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
