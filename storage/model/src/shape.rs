//! What an anchored regular expression matches, where that can be said without running it.
//!
//! Most patterns of dashboards are lists of words, prefixes, suffixes or words inside (`api|web`, `gpu-.*`,
//! `.*5..?|.*-canary`, `(?i).*error.*`). They are expanded into branches of characters and gaps; a branch is compared
//! with a text from left to right, a gap takes as little as it can. What cannot be expanded keeps its prefixes.

use memchr::memmem::Finder;
use regex_syntax::hir::{Class, ClassUnicode, Hir, HirKind, Look, Repetition};

/// Branches that one pattern may expand to.
const BRANCHES_MAX: usize = 256;
/// Characters and gaps of all branches of one pattern.
const PIECES_MAX: usize = 16 << 10;
/// Branches with gaps: they are tried one after the other, which beats an automaton only while they are few.
const GLOBS_MAX: usize = 16;
/// Characters of a class that is expanded.
const CLASS_MAX: usize = 16;
/// Prefixes that are kept; of more, only what they have in common.
const PREFIXES_MAX: usize = 64;

/// What a pattern matches.
#[derive(Debug)]
pub(crate) enum Shape {
    /// These texts, sorted.
    Literals(Vec<String>),
    /// What one of these matches.
    Globs(Globs),
    /// Nothing is known, but that a match starts with one of the prefixes.
    Other,
}

/// Branches with gaps.
#[derive(Debug)]
pub(crate) struct Globs {
    globs: Vec<Glob>,
    /// Whether letters are compared without case. Beyond ASCII that is the automaton's work.
    is_folded: bool,
    pub(crate) matches_empty: bool,
    /// Whether every text matches, but perhaps the empty one.
    pub(crate) matches_all_others: bool,
    /// Whether all texts that start with a prefix match.
    pub(crate) is_prefix_only: bool,
}

/// Shape of a pattern, and what every match starts with: sorted, none the start of another, empty when nothing is
/// known.
pub(crate) fn of(pattern: &Hir) -> (Shape, Vec<String>) {
    let Some(branches) = expand(pattern, Edge { first: true, last: true }) else {
        return (Shape::Other, prefixes(&leading(pattern, true).0));
    };
    let prefixes = prefixes(&branches);
    let literal = |b: &Branch| b.iter().map(|p| if let Piece::Char(c) = p { Some(*c) } else { None }).collect();
    if let Some(mut literals) = branches.iter().map(literal).collect::<Option<Vec<String>>>() {
        literals.sort_unstable();
        literals.dedup();
        return (Shape::Literals(literals), prefixes);
    }
    (globs(&branches, &prefixes).map_or(Shape::Other, Shape::Globs), prefixes)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// An ASCII letter in either case, here in lower case. May stand for what folds to it beyond ASCII too.
    Letter(u8),
    /// One character, whatever it is.
    Any,
    /// At least so many characters.
    Gap(usize),
}

type Branch = Vec<Piece>;

/// Whether a part of the pattern begins where the text does, and ends where it does.
#[derive(Clone, Copy)]
struct Edge {
    first: bool,
    last: bool,
}

/// All branches of `hir`, if they are few.
fn expand(hir: &Hir, edge: Edge) -> Option<Vec<Branch>> {
    let inside = Edge { first: false, last: false };
    match hir.kind() {
        HirKind::Empty => Some(vec![Branch::new()]),
        HirKind::Literal(l) => Some(vec![std::str::from_utf8(&l.0).ok()?.chars().map(Piece::Char).collect()]),
        HirKind::Class(_) if is_any_char(hir) => Some(vec![vec![Piece::Any]]),
        HirKind::Class(Class::Unicode(class)) => class_branches(class),
        HirKind::Class(Class::Bytes(_)) => None,
        HirKind::Look(Look::Start) => edge.first.then(|| vec![Branch::new()]),
        HirKind::Look(Look::End) => edge.last.then(|| vec![Branch::new()]),
        HirKind::Look(_) => None,
        HirKind::Repetition(Repetition { min, max: None, sub, .. }) if is_any_char(sub) => {
            Some(vec![vec![Piece::Gap(usize::try_from(*min).ok()?)]])
        }
        HirKind::Repetition(Repetition { min, max: Some(max), sub, .. }) if min == max && is_any_char(sub) => {
            Some(vec![vec![Piece::Any; usize::try_from(*min).ok().filter(|n| *n <= PIECES_MAX)?]])
        }
        HirKind::Repetition(Repetition { min: 0, max: Some(1), sub, .. }) => {
            let mut out = expand(sub, inside)?;
            out.push(Branch::new());
            Some(out)
        }
        HirKind::Repetition(_) => None,
        HirKind::Capture(capture) => expand(&capture.sub, edge),
        HirKind::Concat(parts) => {
            let mut out = vec![Branch::new()];
            for (i, part) in parts.iter().enumerate() {
                let edge = Edge { first: edge.first && i == 0, last: edge.last && i + 1 == parts.len() };
                out = product(&out, &expand(part, edge)?)?;
            }
            Some(out)
        }
        HirKind::Alternation(parts) => {
            let mut out = Vec::new();
            for part in parts {
                out.extend(expand(part, edge)?);
                if out.len() > BRANCHES_MAX {
                    return None;
                }
            }
            Some(out)
        }
    }
}

/// Each of `a` followed by each of `b`.
fn product(a: &[Branch], b: &[Branch]) -> Option<Vec<Branch>> {
    let pieces = |branches: &[Branch]| branches.iter().map(Vec::len).sum::<usize>();
    let n_pieces = pieces(a) * b.len() + pieces(b) * a.len();
    if a.len() * b.len() > BRANCHES_MAX || n_pieces > PIECES_MAX {
        return None;
    }
    let mut out = Vec::with_capacity(a.len() * b.len());
    for head in a {
        for tail in b {
            let mut branch = head.clone();
            tail.iter().for_each(|piece| push(&mut branch, *piece));
            out.push(branch);
        }
    }
    Some(out)
}

/// Adds a piece; gaps and any characters side by side are one gap.
fn push(branch: &mut Branch, piece: Piece) {
    match (branch.last_mut(), piece) {
        (Some(Piece::Gap(before)), Piece::Gap(min)) => *before = before.saturating_add(min),
        (Some(Piece::Gap(before)), Piece::Any) => *before = before.saturating_add(1),
        (_, Piece::Gap(min)) => {
            let n_any = branch.iter().rev().take_while(|p| **p == Piece::Any).count();
            branch.truncate(branch.len() - n_any);
            push_gap(branch, min.saturating_add(n_any));
        }
        (_, piece) => branch.push(piece),
    }
}

fn push_gap(branch: &mut Branch, min: usize) {
    match branch.last_mut() {
        Some(Piece::Gap(before)) => *before = before.saturating_add(min),
        _ => branch.push(Piece::Gap(min)),
    }
}

fn is_any_char(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            matches!(class.ranges(), [all] if all.start() == '\0' && all.end() == char::MAX)
        }
        HirKind::Capture(capture) => is_any_char(&capture.sub),
        _ => false,
    }
}

fn class_branches(class: &ClassUnicode) -> Option<Vec<Branch>> {
    let n: usize = class.ranges().iter().map(|r| r.len()).sum();
    if n > CLASS_MAX {
        return None;
    }
    let chars: Vec<char> = class.ranges().iter().flat_map(|r| r.start()..=r.end()).collect();
    let ascii: Vec<u8> = chars.iter().filter_map(|c| u8::try_from(*c).ok()).filter(u8::is_ascii).collect();
    if let [upper, lower] = ascii[..]
        && upper.is_ascii_uppercase()
        && upper.to_ascii_lowercase() == lower
        // What else folds to an ASCII letter: the Kelvin sign and the long s.
        && chars.iter().all(|c| c.is_ascii() || matches!((lower, c), (b'k', '\u{212a}') | (b's', '\u{17f}')))
    {
        return Some(vec![vec![Piece::Letter(lower)]]);
    }
    Some(chars.into_iter().map(|c| vec![Piece::Char(c)]).collect())
}

/// Branches of which every match starts with one, and whether they are all of the pattern.
fn leading(hir: &Hir, first: bool) -> (Vec<Branch>, bool) {
    if let Some(branches) = expand(hir, Edge { first, last: false }) {
        return (branches, true);
    }
    let unknown = || (vec![Branch::new()], false);
    match hir.kind() {
        HirKind::Capture(capture) => leading(&capture.sub, first),
        HirKind::Concat(parts) => {
            let mut out = vec![Branch::new()];
            for (i, part) in parts.iter().enumerate() {
                let (branches, is_whole) = leading(part, first && i == 0);
                match product(&out, &branches) {
                    Some(longer) => out = longer,
                    None => return (out, false),
                }
                if !is_whole {
                    break;
                }
            }
            (out, false)
        }
        HirKind::Alternation(parts) => {
            let mut out = Vec::new();
            for part in parts {
                out.extend(leading(part, first).0);
                if out.len() > BRANCHES_MAX {
                    return unknown();
                }
            }
            (out, false)
        }
        _ => unknown(),
    }
}

fn prefixes(branches: &[Branch]) -> Vec<String> {
    let prefix = |b: &Branch| b.iter().map_while(|p| if let Piece::Char(c) = p { Some(*c) } else { None }).collect();
    let mut out: Vec<String> = branches.iter().map(prefix).collect();
    out.sort_unstable();
    // Sorted, a text stands before those that start with it.
    out.dedup_by(|later, earlier| later.starts_with(earlier.as_str()));
    if out.len() > PREFIXES_MAX
        && let (Some(first), Some(last)) = (out.first(), out.last())
    {
        let common = first.chars().zip(last.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c).collect();
        out = vec![common];
    }
    out.retain(|p| !p.is_empty());
    out
}

fn globs(branches: &[Branch], prefixes: &[String]) -> Option<Globs> {
    if branches.len() > GLOBS_MAX {
        return None;
    }
    let is_folded = branches.iter().flatten().any(|p| matches!(p, Piece::Letter(_)));
    let matches_empty = branches.iter().any(|b| matches!(b[..], [] | [Piece::Gap(0)]));
    let matches_all_others = branches.iter().any(|b| matches!(b[..], [Piece::Gap(0 | 1)]));
    // A branch `abc.*` is all that starts with abc; its prefix is among the prefixes or one of them is its start.
    let is_prefix_branch = |b: &Branch| match b.split_last() {
        Some((Piece::Gap(0), start)) => start.iter().all(|p| matches!(p, Piece::Char(_))),
        _ => false,
    };
    let is_prefix_only = !prefixes.is_empty() && branches.iter().all(is_prefix_branch);
    let globs = branches.iter().map(|b| Glob::new(b)).collect::<Option<_>>()?;
    Some(Globs { globs, is_folded, matches_empty, matches_all_others, is_prefix_only })
}

impl Globs {
    /// Whether `text` matches; `None` when only the automaton can tell.
    #[inline]
    pub(crate) fn is_match(&self, text: &str) -> Option<bool> {
        if self.matches_all_others {
            return Some(self.matches_empty || !text.is_empty());
        }
        if self.is_folded && !text.is_ascii() {
            return None;
        }
        Some(self.globs.iter().any(|g| g.is_match(text)))
    }
}

/// Text, then gaps with text after them.
#[derive(Debug)]
struct Glob {
    prefix: Text,
    /// What follows the prefix, each after one character that may be any.
    fixed: Vec<Text>,
    /// Gap, and what stands after it.
    middle: Vec<(usize, Needle)>,
    /// Gap, and what the text ends with. Without it the prefix is all.
    last: Option<(usize, Text)>,
}

/// What is compared at a fixed place.
#[derive(Debug)]
struct Text {
    bytes: Box<[u8]>,
    is_folded: bool,
}

/// What is searched.
#[derive(Debug)]
enum Needle {
    Exact(Box<Finder<'static>>),
    /// In lower case.
    Folded(Box<[u8]>),
}

impl Text {
    fn new(pieces: &[Piece], is_folded: bool) -> Self {
        let mut bytes = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                Piece::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                Piece::Letter(letter) => bytes.push(*letter),
                Piece::Any | Piece::Gap(_) => {}
            }
        }
        Self { bytes: bytes.into(), is_folded }
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn equals(&self, text: &[u8]) -> bool {
        // An empty list points nowhere, and `memcmp` of nothing at such a place takes 100 ns where it loads with masks:
        // the processor finds out slowly that nothing was to be loaded.
        if self.bytes.is_empty() {
            return text.is_empty();
        }
        if self.is_folded { self.bytes.eq_ignore_ascii_case(text) } else { *self.bytes == *text }
    }
}

impl Glob {
    fn new(branch: &[Piece]) -> Option<Self> {
        let is_folded = branch.iter().any(|p| matches!(p, Piece::Letter(_)));
        // Letters with and without case side by side would need a mark per letter.
        if is_folded && branch.iter().any(|p| matches!(p, Piece::Char(c) if c.is_ascii_alphabetic())) {
            return None;
        }
        let gap = |p: &Piece| if let Piece::Gap(min) = p { Some(*min) } else { None };
        let mut parts = branch.split(|p| gap(p).is_some());
        let mut start = parts.next()?.split(|p| *p == Piece::Any).map(|pieces| Text::new(pieces, is_folded));
        let (prefix, fixed) = (start.next()?, start.collect());
        // Behind a gap the place is not fixed; to find it would take more than the first occurrence.
        if parts.clone().flatten().any(|p| *p == Piece::Any) {
            return None;
        }
        let texts = parts.map(|pieces| Text::new(pieces, is_folded));
        let mut rest: Vec<(usize, Text)> = branch.iter().filter_map(gap).zip(texts).collect();
        let last = rest.pop();
        let needle = |text: Text| {
            if text.is_folded {
                Needle::Folded(text.bytes)
            } else {
                Needle::Exact(Box::new(Finder::new(&text.bytes).into_owned()))
            }
        };
        let middle = rest.into_iter().map(|(min, text)| (min, needle(text))).collect();
        Some(Self { prefix, fixed, middle, last })
    }

    #[inline]
    fn is_match(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let Some((start, mut rest)) = bytes.split_at_checked(self.prefix.len()) else { return false };
        if !self.prefix.equals(start) {
            return false;
        }
        for text in &self.fixed {
            let Some((here, after)) = skip_chars(rest, 1).and_then(|r| r.split_at_checked(text.len())) else {
                return false;
            };
            if !text.equals(here) {
                return false;
            }
            rest = after;
        }
        let Some((last_gap, suffix)) = &self.last else { return rest.is_empty() };
        // The first place for each text inside leaves the most for those after it.
        for (gap, needle) in &self.middle {
            let Some(after) = skip_chars(rest, *gap) else { return false };
            let Some(at) = needle.find(after) else { return false };
            rest = &after[at + needle.len()..];
        }
        let Some(rest) = skip_chars(rest, *last_gap) else { return false };
        rest.len() >= suffix.len() && suffix.equals(&rest[rest.len() - suffix.len()..])
    }
}

impl Needle {
    fn len(&self) -> usize {
        match self {
            Self::Exact(finder) => finder.needle().len(),
            Self::Folded(bytes) => bytes.len(),
        }
    }

    fn find(&self, text: &[u8]) -> Option<usize> {
        match self {
            Self::Exact(finder) => finder.find(text),
            Self::Folded(needle) => {
                let first = needle.first()?;
                let candidates = memchr::memchr2_iter(*first, first.to_ascii_uppercase(), text);
                let is_here =
                    |at: &usize| text.get(*at..at + needle.len()).is_some_and(|t| t.eq_ignore_ascii_case(needle));
                candidates.into_iter().find(is_here)
            }
        }
    }
}

/// The rest of `text`, valid UTF-8 that begins with a whole character, after so many characters.
fn skip_chars(text: &[u8], n: usize) -> Option<&[u8]> {
    let mut at = 0;
    for _ in 0..n {
        let lead = *text.get(at)?;
        at += match lead {
            0..=0x7f => 1,
            0x80..=0xdf => 2,
            0xe0..=0xef => 3,
            _ => 4,
        };
    }
    text.get(at..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pattern: &str) -> (Shape, Vec<String>) {
        of(&regex_syntax::ParserBuilder::new().dot_matches_new_line(true).build().parse(pattern).unwrap())
    }

    #[track_caller]
    fn check(pattern: &str, expected: &str) {
        let (shape, prefixes) = parse(pattern);
        let kind = match shape {
            Shape::Literals(l) => format!("literals {}", l.join(",")),
            Shape::Globs(g) if g.matches_all_others => format!("all, empty {}", g.matches_empty),
            Shape::Globs(g) if g.is_prefix_only => "prefixes".to_owned(),
            Shape::Globs(g) => format!("{} globs", g.globs.len()),
            Shape::Other => "other".to_owned(),
        };
        assert_eq!(format!("{kind}; {}", prefixes.join(",")), expected, "{pattern}");
    }

    #[test]
    fn patterns_of_dashboards_are_recognised() {
        check("a|bc|b", "literals a,b,bc; a,b");
        check("^(api|web)-[12]$", "literals api-1,api-2,web-1,web-2; api-1,api-2,web-1,web-2");
        check("", "literals ; ");
        check(".*", "all, empty true; ");
        check(".+", "all, empty false; ");
        check(".+|", "all, empty true; ");
        check("^.*$", "all, empty true; ");
        check("gpu-.*", "prefixes; gpu-");
        check("(a|ab|c).*", "prefixes; a,c");
        check("gpu-.+", "1 globs; gpu-");
        check(".*error.*", "1 globs; ");
        check("5..", "1 globs; 5");
        check("5.?x|.{2}", "3 globs; ");
        check("..*.", "1 globs; ");
        check(".*a.b", "other; ");
        check("(?i).*error.*", "1 globs; ");
        check("(?i)kiss", "1 globs; ");
        check("a(?i:b).*", "other; a");
        check("x-(a|b)[0-9]+|y[0-9a-z]*", "other; x-a,x-b,y");
        check("[0-9]+", "other; ");
        check("a$b", "other; a");
        check("(?m)^a", "other; ");
    }

    #[test]
    fn expansion_is_bounded() {
        check(&"[ab]".repeat(9), "other; ");
        check(&"(a|b|c)".repeat(40), "other; ");
    }
}
