//! The HTML of our own panels as a tree. Not a parser for the web: what `panels` writes and `html::sanitize` lets
//! through is well formed but for elements without an end.

/// Elements without an end.
const VOID: [&str; 6] = ["br", "hr", "img", "input", "col", "meta"];
/// Depth of elements; what is deeper is left out.
const DEPTH_MAX: usize = 64;

/// An element.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) children: Vec<Node>,
}

/// What is inside of an element.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A number, without looking at a unit behind it.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.attribute(name)?.trim_end_matches(['%', 'p', 'x']).parse().ok()
    }

    pub(super) fn has_class(&self, class: &str) -> bool {
        self.attribute("class").is_some_and(|all| all.split(' ').any(|c| c == class))
    }

    /// The elements directly inside.
    pub(super) fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|n| match n {
            Node::Element(e) => Some(e),
            Node::Text(_) => None,
        })
    }

    /// The first element directly inside that has `class`.
    pub(super) fn child(&self, class: &str) -> Option<&Element> {
        self.elements().find(|e| e.has_class(class))
    }

    /// The first element of this name, at any depth.
    pub(super) fn find(&self, name: &str) -> Option<&Element> {
        self.elements().find_map(|e| if e.name == name { Some(e) } else { e.find(name) })
    }

    /// All text inside.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.add_text(&mut out);
        out
    }

    fn add_text(&self, out: &mut String) {
        for child in &self.children {
            match child {
                Node::Text(t) => out.push_str(t),
                // Told to those who do not see, or drawn already.
                Node::Element(e) if e.has_class("sr") || e.name == "svg" || e.name == "script" => {}
                Node::Element(e) => e.add_text(out),
            }
        }
    }
}

/// The tree of a piece of HTML, under an element without a name.
pub(super) fn parse(html: &str) -> Element {
    let mut open = vec![Element::default()];
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        push_text(&rest[..start], &mut open);
        rest = &rest[start..];
        let Some(end) = tag_end(rest) else { break };
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            close(name.trim(), &mut open);
            continue;
        }
        if tag.starts_with('!') {
            continue;
        }
        let is_closed = tag.ends_with('/');
        let element = element(tag.trim_end_matches('/'));
        if element.name == "script" {
            rest = rest.find("</script>").map_or("", |at| &rest[at + 9..]);
            continue;
        }
        if is_closed || VOID.contains(&element.name.as_str()) || open.len() >= DEPTH_MAX {
            push(Node::Element(element), &mut open);
        } else {
            open.push(element);
        }
    }
    push_text(rest, &mut open);
    while open.len() > 1 {
        fold(&mut open);
    }
    open.pop().unwrap_or_default()
}

fn push(node: Node, open: &mut [Element]) {
    if let Some(last) = open.last_mut() {
        last.children.push(node);
    }
}

fn push_text(text: &str, open: &mut [Element]) {
    if !text.is_empty() {
        push(Node::Text(decode(text)), open);
    }
}

fn fold(open: &mut Vec<Element>) {
    if let Some(done) = open.pop() {
        push(Node::Element(done), open);
    }
}

fn close(name: &str, open: &mut Vec<Element>) {
    if !open.iter().skip(1).any(|e| e.name == name) {
        return;
    }
    while open.len() > 1 {
        let is_it = open.last().is_some_and(|e| e.name == name);
        fold(open);
        if is_it {
            return;
        }
    }
}

fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (i, c) in tag.bytes().enumerate() {
        match (quote, c) {
            (None, b'>') => return Some(i),
            (None, b'"' | b'\'') => quote = Some(c),
            (Some(q), c) if c == q => quote = None,
            _ => {}
        }
    }
    None
}

fn element(tag: &str) -> Element {
    let name_end = tag.find(char::is_whitespace).unwrap_or(tag.len());
    let mut out = Element { name: tag[..name_end].to_owned(), ..Element::default() };
    let mut rest = tag[name_end..].trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        rest = rest[end..].trim_start();
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            let (text, left) = match after.chars().next() {
                Some(q @ ('"' | '\'')) => {
                    let inner = &after[1..];
                    let end = inner.find(q).unwrap_or(inner.len());
                    (&inner[..end], inner.get(end + 1..).unwrap_or(""))
                }
                _ => after.split_at(after.find(char::is_whitespace).unwrap_or(after.len())),
            };
            value = decode(text);
            rest = left.trim_start();
        } else if end == 0 {
            break;
        }
        out.attributes.push((name, value));
    }
    out
}

fn decode(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(';').filter(|end| *end < 12);
        let c = end.and_then(|end| entity(&rest[1..end]));
        match (c, end) {
            (Some(c), Some(end)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            _ => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn entity(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        _ => {
            let code = name.strip_prefix('#')?;
            let code = match code.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => code.parse().ok()?,
            };
            char::from_u32(code)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_have_text_attributes_and_ends() {
        let root = parse(
            "<div class=\"a b\" title='x &lt; \"y\"'>one<br>two &amp; <b>three</b><svg><path d=\"M0 0\"/></svg></div>\
             <script type=\"x\">{\"<div>\"}</script><p>open",
        );
        let div = root.elements().next().unwrap();
        assert!(div.has_class("b") && !div.has_class("c"));
        assert_eq!(div.attribute("title"), Some("x < \"y\""));
        assert_eq!(div.text(), "onetwo & three");
        assert_eq!(div.find("path").unwrap().attribute("d"), Some("M0 0"));
        assert_eq!(root.elements().nth(1).unwrap().text(), "open");
        assert_eq!(root.elements().count(), 2);
        assert_eq!(parse("x &bogus; &#65;").text(), "x &bogus; A");
    }
}
