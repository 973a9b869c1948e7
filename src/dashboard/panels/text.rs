//! The text panel: Markdown, or a subset of HTML.

use crate::dashboard::html;
use crate::dashboard::json::text;
use crate::dashboard::model::Panel;

use super::DrawContext;

/// Text that is rendered of one panel, bytes.
const TEXT_BYTES_MAX: usize = 256 << 10;

pub(super) fn draw(panel: &Panel, context: &DrawContext<'_>, out: &mut String) {
    let content = context.text(text(&panel.options, "content").unwrap_or(""));
    let content = match content.char_indices().nth(TEXT_BYTES_MAX / 4) {
        Some((end, _)) => &content[..end],
        None => &content,
    };
    out.push_str("<div class=\"text\">");
    match text(&panel.options, "mode").unwrap_or("markdown") {
        "html" => out.push_str(&html::sanitize(content)),
        "code" => {
            out.push_str("<pre>");
            html::escape_into(content, out);
            out.push_str("</pre>");
        }
        _ => out.push_str(&html::markdown(content)),
    }
    out.push_str("</div>");
}
