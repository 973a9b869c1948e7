//! Text into HTML: escaping, and the subset of markup that text panels may use.

/// Replaces the characters that mean something in HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    escape_into(text, &mut out);
    out
}

/// As [`escape`], appending.
pub(crate) fn escape_into(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

/// HTML in a colour; without one of its own where that is the colour of the text around it.
pub(crate) fn colored(color: &str, body: &str) -> String {
    match color {
        "currentColor" | "transparent" => format!("<span>{body}</span>"),
        color => format!("<font color=\"{}\">{body}</font>", super::color::plain(color)),
    }
}

use pulldown_cmark::{Options, Parser, html as cmark_html};

/// Markdown as HTML; raw HTML inside passes the same sieve as everything else.
pub(crate) fn markdown(text: &str) -> String {
    let parser = Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH);
    let mut raw = String::new();
    cmark_html::push_html(&mut raw, parser);
    sanitize(&raw)
}

/// Elements that a text panel may use.
const ELEMENTS: [&str; 41] = [
    "a",
    "abbr",
    "b",
    "blockquote",
    "br",
    "center",
    "code",
    "dd",
    "del",
    "details",
    "div",
    "dl",
    "dt",
    "em",
    "font",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "kbd",
    "li",
    "ol",
    "p",
    "pre",
    "s",
    "small",
    "span",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
];
/// More of them; `tr` and `ul` end the alphabet.
const ELEMENTS_REST: [&str; 3] = ["tr", "u", "ul"];
/// Elements whose content goes with them.
const DROPPED: [&str; 5] = ["script", "style", "iframe", "object", "noscript"];

/// Keeps the elements and attributes that can do no harm, escapes the rest.
pub(crate) fn sanitize(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut open: Vec<&'static str> = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        push_text(&rest[..start], &mut out);
        rest = &rest[start..];
        if rest.starts_with("<!--") {
            rest = rest.find("-->").map_or("", |end| &rest[end + 3..]);
            continue;
        }
        let Some(end) = tag_end(rest) else {
            escape_into(rest, &mut out);
            rest = "";
            break;
        };
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        let is_closing = tag.starts_with('/');
        let body = tag.trim_start_matches('/');
        let name_end = body.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(body.len());
        let name = body[..name_end].to_ascii_lowercase();
        if DROPPED.contains(&name.as_str()) && !is_closing {
            rest = closing(rest, &name).map_or("", |at| &rest[at..]);
            continue;
        }
        let Some(known) = ELEMENTS.iter().chain(&ELEMENTS_REST).find(|e| **e == name) else { continue };
        if is_closing {
            // Close what was opened inside, so that a panel cannot break the page around it.
            if let Some(at) = open.iter().rposition(|e| e == known) {
                for e in open.drain(at..).rev() {
                    out.push_str(&format!("</{e}>"));
                }
            }
            continue;
        }
        if *known == "img" && picture_elsewhere(&body[name_end..], &mut out) {
            continue;
        }
        out.push('<');
        out.push_str(known);
        attributes(known, &body[name_end..], &mut out);
        out.push('>');
        if !matches!(*known, "br" | "hr" | "img") {
            open.push(known);
            // The policy of pages takes no style; the colour of a text has an element of its own.
            if let Some(color) = style(&body[name_end..], "color").filter(|c| is_color(c)) {
                out.push_str(&format!("<font color=\"{}\">", super::color::plain(color)));
                open.push("font");
            }
        }
    }
    push_text(rest, &mut out);
    for e in open.iter().rev() {
        out.push_str(&format!("</{e}>"));
    }
    out
}

/// Pages show no pictures of other servers, which would learn of every reader; a link stands in for one.
fn picture_elsewhere(attributes: &str, out: &mut String) -> bool {
    let Some(url) = attribute(attributes, "src").filter(|u| u.trim_start().starts_with("http")) else { return false };
    let words = attribute(attributes, "alt").or(attribute(attributes, "title")).filter(|w| !w.trim().is_empty());
    if is_safe_url(url) {
        let quoted = |t: &str| t.replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;");
        let (url, words) = (quoted(url), quoted(words.unwrap_or("picture")));
        out.push_str(&format!("<a href=\"{url}\" rel=\"noopener noreferrer\">{words}</a>"));
    }
    true
}

/// Where the tag that closes `name` begins.
fn closing(text: &str, name: &str) -> Option<usize> {
    let is_it = |at: &usize| {
        let after = text.as_bytes().get(at + 2..at + 2 + name.len());
        after.is_some_and(|n| n.eq_ignore_ascii_case(name.as_bytes()))
    };
    text.match_indices("</").map(|(at, _)| at).find(is_it)
}

/// The value of an attribute in quotes.
fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    let at = attributes.find(&format!("{name}="))? + name.len() + 1;
    let quote = attributes[at..].chars().next().filter(|c| matches!(c, '"' | '\''))?;
    attributes[at + 1..].split(quote).next()
}

/// The value of a property inside the attribute `style`.
fn style<'a>(attributes: &'a str, property: &str) -> Option<&'a str> {
    let inside = attribute(attributes, "style")?;
    let of = |rule: &'a str| rule.split_once(':').filter(|(name, _)| name.trim().eq_ignore_ascii_case(property));
    inside.split(';').find_map(of).map(|(_, value)| value.trim().trim_end_matches("!important").trim())
}

fn is_color(text: &str) -> bool {
    !text.is_empty()
        && text.len() < 40
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '#' | '(' | ')' | ',' | '.' | '%' | ' '))
}

/// Text whose entities stay.
fn push_text(text: &str, out: &mut String) {
    out.push_str(&text.replace('>', "&gt;"));
}

/// The `>` that ends a tag, outside of quotes.
fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (i, c) in tag.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(i),
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if c == q => quote = None,
            _ => {}
        }
    }
    None
}

fn attributes(element: &str, text: &str, out: &mut String) {
    if let Some(align @ ("left" | "center" | "right" | "justify")) = style(text, "text-align")
        && matches!(element, "div" | "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "td" | "th")
    {
        out.push_str(&format!(" align=\"{align}\""));
    }
    let mut rest = text.trim_start_matches('/').trim();
    while !rest.is_empty() {
        let name_end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let name = rest[..name_end].to_ascii_lowercase();
        rest = rest[name_end..].trim_start();
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
            match quote {
                Some(q) => {
                    let inner = &after[1..];
                    let end = inner.find(q).unwrap_or(inner.len());
                    value = &inner[..end];
                    rest = inner.get(end + 1..).unwrap_or("").trim_start();
                }
                None => {
                    let end = after.find(char::is_whitespace).unwrap_or(after.len());
                    value = &after[..end];
                    rest = after[end..].trim_start();
                }
            }
        } else if name_end == 0 {
            break;
        }
        let kept = match (element, name.as_str()) {
            ("a", "href") | ("img", "src") => is_safe_url(value),
            ("img", "alt" | "width" | "height") | ("td" | "th", "colspan" | "rowspan" | "align") => true,
            ("div" | "p" | "h1" | "h2" | "h3", "align") => true,
            ("font", "color") => is_color(value),
            (_, "title") => true,
            _ => false,
        };
        if kept {
            // Entities were written for HTML already; only what would end the attribute is replaced.
            let value = value.replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;");
            out.push_str(&format!(" {name}=\"{value}\""));
        }
        if element == "a" && name == "target" {
            out.push_str(" target=\"_blank\" rel=\"noopener noreferrer\"");
        }
    }
}

/// Whether an address leads to a page and does not run anything.
pub(crate) fn is_safe_url(url: &str) -> bool {
    let plain: String = url.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    let lower = plain.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") || lower.starts_with("mailto:") {
        return true;
    }
    // A relative address has no colon (nor an entity that could hide one) before its first slash, ? or #.
    let head = lower.split(['/', '?', '#']).next().unwrap_or("");
    !head.contains(':') && !head.contains('&')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(html: &str, expected: &str) {
        assert_eq!(sanitize(html), expected);
    }

    #[test]
    fn harmless_markup_stays_and_the_rest_goes() {
        check("<b>x</b> &amp; 1 < 2", "<b>x</b> &amp; 1 &lt; 2");
        check("<script>alert(1)</script>after", "after");
        check("<ScRipt>alert(1)</b></SCRIPT >after", "after");
        check("<script>alert(1)", "");
        check("<img src=x onerror=alert(1) alt='a\"b'>", "<img src=\"x\" alt=\"a&quot;b\">");
        check("<a href=\"javascript:alert(1)\">x</a>", "<a>x</a>");
        check("<a href=\"java&#115;cript:alert(1)\">x</a>", "<a>x</a>");
        check(
            "<a href=\"/d/x?y=1\" target=_blank>x</a>",
            "<a href=\"/d/x?y=1\" target=\"_blank\" rel=\"noopener noreferrer\">x</a>",
        );
        check("<div style=\"position:fixed\"><p>open", "<div><p>open</p></div>");
        check(
            "<h1 style='color: #73BF69; text-align:center'>x</h1>y",
            "<h1 align=\"center\"><font color=\"#73BF69\">x</font></h1>y",
        );
        check("<p style='color: rgb(255, 0, 10)'>x</p>", "<p><font color=\"#ff000a\">x</font></p>");
        check("<p style=\"color:url(javascript:x)\">x", "<p>x</p>");
        check("<font color=\"red\" onclick=x>x</font>", "<font color=\"red\">x</font>");
        check("</div></div>x<!-- c -->y", "xy");
        check("<svg onload=x><b>y", "<b>y</b>");
        check(
            "<img src=\"https://x/y.png?a=1\" alt='logo \"x\"'>",
            "<a href=\"https://x/y.png?a=1\" rel=\"noopener noreferrer\">logo &quot;x&quot;</a>",
        );
        check("a <b", "a &lt;b");
    }

    #[test]
    fn markdown_renders() {
        assert_eq!(
            markdown("# T\n\n[l](http://x) `c`"),
            "<h1>T</h1>\n<p><a href=\"http://x\">l</a> <code>c</code></p>\n"
        );
        assert_eq!(markdown("<img onerror=x src=y>"), "<img src=\"y\">");
    }
}
