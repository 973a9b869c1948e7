//! RE2's dialect of regular expressions, as Go has it, to that of the `regex` crate.
//!
//! What Go accepts is rewritten so that it means the same (`\d`, `\w`, `\s` are ASCII, a lone `{` is a brace, `&&` in
//! a class is two ampersands), and what Go rejects is rejected, with Go's words where they are cheap to have. Names of
//! groups are kept aside: `regex` allows fewer of them.

use std::fmt::Write as _;

/// Most repetitions that `{n,m}` may ask for.
const REPEAT_MAX: u32 = 1000;

/// An expression in the dialect of the `regex` crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Translated {
    pub(crate) pattern: String,
    /// Names of the groups, from the first; empty for those without.
    pub(crate) groups: Vec<String>,
}

/// Why Go would not compile the expression: what is wrong, and the part that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) reason: &'static str,
    pub(crate) part: String,
}

type Outcome<T> = Result<T, Rejected>;

fn rejected<T>(reason: &'static str, part: &str) -> Outcome<T> {
    Err(Rejected { reason, part: part.to_owned() })
}

const BAD_ESCAPE: &str = "invalid escape sequence";
const BAD_PERL: &str = "invalid or unsupported Perl syntax";
const BAD_NAME: &str = "invalid named capture";
const BAD_RANGE: &str = "invalid character class range";

/// Rewrites `pattern`.
pub(crate) fn translate(pattern: &str) -> Outcome<Translated> {
    let mut translator = Translator {
        whole: pattern,
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        groups: Vec::new(),
        flags: String::new(),
    };
    translator.run()?;
    Ok(Translated { pattern: translator.out, groups: translator.groups })
}

/// What stands before a repetition operator.
enum Before<'a> {
    /// Nothing that could be repeated.
    Nothing,
    /// Something that can.
    Something,
    /// A repetition; the text from its operator on.
    Repetition(&'a str),
}

struct Translator<'a> {
    whole: &'a str,
    rest: &'a str,
    out: String,
    groups: Vec<String>,
    /// Flags that are set from here on: written after a repetition that follows, which is of what stands before them.
    flags: String,
}

impl<'a> Translator<'a> {
    fn run(&mut self) -> Outcome<()> {
        let mut before = Before::Nothing;
        let mut open = 0_usize;
        while let Some(c) = self.rest.chars().next() {
            let at = self.rest;
            let mut next = Before::Something;
            if !matches!(c, '*' | '+' | '?' | '{') {
                self.out.push_str(&std::mem::take(&mut self.flags));
            }
            match c {
                '(' => {
                    // Flags alone open no group.
                    if self.group()? {
                        open += 1;
                        next = Before::Nothing;
                    } else {
                        next = before;
                    }
                }
                ')' => {
                    if open == 0 {
                        return rejected("unexpected )", self.whole);
                    }
                    open -= 1;
                    self.copy(1);
                }
                '|' => {
                    self.copy(1);
                    next = Before::Nothing;
                }
                '*' | '+' | '?' => {
                    self.copy(1);
                    next = self.repetition(at, before)?;
                }
                '{' => match self.counts()? {
                    Some(counts) => {
                        self.out.push_str(&counts);
                        next = self.repetition(at, before)?;
                    }
                    None => {
                        self.out.push_str(&std::mem::take(&mut self.flags));
                        self.literal('{');
                    }
                },
                '[' => self.class()?,
                '.' | '^' | '$' => self.copy(1),
                '\\' => self.escape()?,
                c => self.literal(c),
            }
            before = next;
        }
        self.out.push_str(&std::mem::take(&mut self.flags));
        if open > 0 { rejected("missing closing )", self.whole) } else { Ok(()) }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn copy(&mut self, bytes: usize) {
        self.out.push_str(&self.rest[..bytes]);
        self.skip(bytes);
    }

    /// A character that stands for itself, and is next.
    fn literal(&mut self, c: char) {
        self.skip(c.len_utf8());
        push_literal(&mut self.out, c);
    }

    /// After an operator that was copied from `at` on.
    fn repetition(&mut self, at: &'a str, before: Before<'a>) -> Outcome<Before<'a>> {
        if self.rest.starts_with('?') {
            self.copy(1);
        }
        let operator = |from: &'a str, rest: &str| &from[..from.len() - rest.len()];
        match before {
            Before::Nothing => {
                // The operator without the question mark of its lazy form.
                let operator = operator(at, self.rest);
                let alone = operator.strip_suffix('?').filter(|o| !o.is_empty()).unwrap_or(operator);
                rejected("missing argument to repetition operator", alone)
            }
            Before::Repetition(first) => rejected("invalid nested repetition operator", operator(first, self.rest)),
            Before::Something => Ok(Before::Repetition(at)),
        }
    }

    /// `{n}`, `{n,}` or `{n,m}`, which is then consumed; any other brace is none.
    fn counts(&mut self) -> Outcome<Option<String>> {
        let Some(end) = self.rest.find('}') else {
            return Ok(None);
        };
        let inside = &self.rest[1..end];
        let is_number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let (least, most) = inside.split_once(',').unwrap_or((inside, inside));
        let leading_zero = |s: &str| s.len() > 1 && s.starts_with('0');
        if !is_number(least) || !(most.is_empty() || is_number(most)) || leading_zero(least) || leading_zero(most) {
            return Ok(None);
        }
        let number = |s: &str| s.parse::<u32>().ok().filter(|n| *n <= REPEAT_MAX);
        let text = &self.rest[..=end];
        let fits = match (number(least), most.is_empty(), number(most)) {
            (Some(_), true, _) => true,
            (Some(least), false, Some(most)) => least <= most,
            _ => false,
        };
        if !fits {
            return rejected("invalid repeat count", text);
        }
        let text = text.to_owned();
        self.skip(end + 1);
        Ok(Some(text))
    }

    /// What begins with `(`; answers whether a group was opened.
    fn group(&mut self) -> Outcome<bool> {
        let Some(after) = self.rest.strip_prefix("(?") else {
            self.groups.push(String::new());
            self.copy(1);
            return Ok(true);
        };
        let named = after.strip_prefix("P<").or_else(|| after.strip_prefix('<'));
        if let Some(named) = named {
            let Some((name, rest)) = named.split_once('>') else {
                return rejected(BAD_NAME, self.rest);
            };
            let part = &self.rest[..self.rest.len() - rest.len()];
            let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !valid {
                return rejected(BAD_NAME, part);
            }
            self.groups.push(name.to_owned());
            self.out.push('(');
            self.rest = rest;
            return Ok(true);
        }
        let mut negative = false;
        let mut flag_since_sign = false;
        for (i, c) in after.char_indices() {
            match c {
                'i' | 'm' | 's' | 'U' => flag_since_sign = true,
                '-' if !negative => {
                    negative = true;
                    flag_since_sign = false;
                }
                ':' | ')' if !negative || flag_since_sign => {
                    let empty = i == 0;
                    let length = 2 + i + 1;
                    if c == ':' {
                        self.copy(length);
                    } else {
                        // `(?)` sets nothing.
                        if !empty {
                            self.flags.push_str(&self.rest[..length]);
                        }
                        self.skip(length);
                    }
                    return Ok(c == ':');
                }
                _ => return rejected(BAD_PERL, &self.rest[..2 + i + c.len_utf8()]),
            }
        }
        rejected(BAD_PERL, self.rest)
    }

    /// What begins with a backslash, outside classes.
    fn escape(&mut self) -> Outcome<()> {
        if let Some(quoted) = self.rest.strip_prefix("\\Q") {
            let (literal, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            for c in literal.chars() {
                push_literal(&mut self.out, c);
            }
            self.rest = rest;
            return Ok(());
        }
        let kind = self.rest[1..].chars().next();
        match kind {
            Some('b') => {
                self.skip(2);
                self.out.push_str("(?-u:\\b)");
                return Ok(());
            }
            Some('B') => {
                self.skip(2);
                self.out.push_str("(?-u:\\B)");
                return Ok(());
            }
            Some('A' | 'z') => {
                self.copy(2);
                return Ok(());
            }
            Some('E') if self.rest.starts_with("\\E") => {
                // An end without its beginning says nothing.
                return rejected(BAD_ESCAPE, "\\E");
            }
            _ => {}
        }
        if let Some(class) = self.class_escape()? {
            let _ = write!(self.out, "[{class}]");
            return Ok(());
        }
        let c = self.character()?;
        push_literal(&mut self.out, c);
        Ok(())
    }

    /// `\d`, `\pL`, `\p{Greek}` and their like as members of a class, consumed; `None` for other escapes.
    fn class_escape(&mut self) -> Outcome<Option<String>> {
        let mut chars = self.rest[1..].chars();
        let members = match chars.next() {
            Some('d') => "0-9",
            Some('D') => "^0-9",
            Some('s') => r"\t\n\x0C\r\x20",
            Some('S') => r"^\t\n\x0C\r\x20",
            Some('w') => "0-9A-Za-z_",
            Some('W') => "^0-9A-Za-z_",
            Some(kind @ ('p' | 'P')) => return self.property(kind).map(Some),
            _ => return Ok(None),
        };
        self.skip(2);
        // Nested, so that the negated ones may stand among other members.
        Ok(Some(format!("[{members}]")))
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`.
    fn property(&mut self, kind: char) -> Outcome<String> {
        let after = &self.rest[2..];
        let (name, length) = match after.strip_prefix('{') {
            Some(inside) => match inside.find('}') {
                Some(end) => (&inside[..end], end + 2),
                None => return rejected(BAD_RANGE, self.rest),
            },
            None => match after.chars().next() {
                Some(c) => (&after[..c.len_utf8()], c.len_utf8()),
                None => return rejected(BAD_ESCAPE, self.rest),
            },
        };
        let part = &self.rest[..2 + length];
        let (negated, name) = match name.strip_prefix('^') {
            Some(name) => (true, name),
            None => (false, name),
        };
        let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
        if !valid {
            return rejected(BAD_RANGE, part);
        }
        let kind = if negated == (kind == 'p') { 'P' } else { 'p' };
        let member = format!("\\{kind}{{{name}}}");
        self.skip(2 + length);
        Ok(member)
    }

    /// An escape for one character, consumed.
    fn character(&mut self) -> Outcome<char> {
        let from = self.rest;
        let mut chars = from[1..].chars();
        let Some(c) = chars.next() else {
            return rejected("trailing backslash at end of expression", "");
        };
        let after = chars.as_str();
        let done = |t: &mut Self, c: char, rest: &'a str| {
            t.rest = rest;
            Ok(c)
        };
        let upto = |rest: &str| &from[..from.len() - rest.len()];
        match c {
            '0'..='7' => {
                // A single digit but 0 would refer back to a group, which there is not.
                if c != '0' && !after.starts_with(|c: char| ('0'..='7').contains(&c)) {
                    return rejected(BAD_ESCAPE, upto(after));
                }
                let digits = after.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
                let value = u32::from_str_radix(&from[1..2 + digits], 8).unwrap_or(0);
                match char::from_u32(value) {
                    Some(c) => done(self, c, &after[digits..]),
                    None => rejected(BAD_ESCAPE, upto(after)),
                }
            }
            'x' => {
                let (digits, rest) = match after.strip_prefix('{') {
                    Some(inside) => match inside.split_once('}') {
                        Some(parts) => parts,
                        None => return rejected(BAD_ESCAPE, from),
                    },
                    None => match after.get(..2) {
                        Some(digits) => (digits, &after[2..]),
                        None => return rejected(BAD_ESCAPE, from),
                    },
                };
                let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
                let value = u32::from_str_radix(digits, 16).ok().filter(|_| hex).and_then(char::from_u32);
                match value {
                    Some(c) => done(self, c, rest),
                    None => rejected(BAD_ESCAPE, upto(rest)),
                }
            }
            'a' => done(self, '\x07', after),
            'f' => done(self, '\x0c', after),
            'n' => done(self, '\n', after),
            'r' => done(self, '\r', after),
            't' => done(self, '\t', after),
            'v' => done(self, '\x0b', after),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => done(self, c, after),
            _ => rejected(BAD_ESCAPE, upto(after)),
        }
    }

    /// `[…]`.
    fn class(&mut self) -> Outcome<()> {
        let from = self.rest;
        self.skip(1);
        let mut members = String::from("[");
        if self.rest.starts_with('^') {
            self.skip(1);
            members.push('^');
        }
        let mut first = true;
        loop {
            if self.rest.is_empty() {
                return rejected("missing closing ]", from);
            }
            if self.rest.starts_with(']') && !first {
                self.skip(1);
                break;
            }
            first = false;
            if let Some(named) = self.posix_class()? {
                members.push_str(&named);
                continue;
            }
            if self.rest.starts_with('\\')
                && let Some(class) = self.class_escape()?
            {
                members.push_str(&class);
                continue;
            }
            let range = self.rest;
            let low = self.class_character(from)?;
            let mut high = low;
            if self.rest.starts_with('-') && self.rest.len() > 1 && !self.rest.starts_with("-]") {
                self.skip(1);
                high = self.class_character(from)?;
                if high < low {
                    return rejected(BAD_RANGE, &range[..range.len() - self.rest.len()]);
                }
            }
            push_member(&mut members, low);
            if high != low {
                members.push('-');
                push_member(&mut members, high);
            }
        }
        members.push(']');
        self.out.push_str(&members);
        Ok(())
    }

    /// `[:alpha:]` inside a class.
    fn posix_class(&mut self) -> Outcome<Option<String>> {
        let Some(inside) = self.rest.strip_prefix("[:") else {
            return Ok(None);
        };
        let Some(end) = inside.find(":]") else {
            return Ok(None);
        };
        let part = &self.rest[..end + 4];
        let name = inside[..end].trim_start_matches('^');
        let known = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        if !known.contains(&name) {
            return rejected(BAD_RANGE, part);
        }
        let part = part.to_owned();
        self.skip(part.len());
        Ok(Some(part))
    }

    fn class_character(&mut self, class: &str) -> Outcome<char> {
        match self.rest.chars().next() {
            None => rejected("missing closing ]", class),
            Some('\\') => self.character(),
            Some(c) => {
                self.skip(c.len_utf8());
                Ok(c)
            }
        }
    }
}

/// A character that stands for itself, outside classes.
fn push_literal(out: &mut String, c: char) {
    if regex_syntax::is_meta_character(c) {
        out.push('\\');
    }
    out.push(c);
}

/// A character of a class; anything that might be an operator there is written as a number.
fn push_member(out: &mut String, c: char) {
    if c.is_alphanumeric() {
        out.push(c);
    } else {
        let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
    }
}

#[cfg(test)]
mod tests {
    use crate::regex::Regex;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let regex = Regex::new(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        for text in yes {
            assert!(regex.is_match(text), "{pattern} should match {text:?}");
        }
        for text in no {
            assert!(!regex.is_match(text), "{pattern} should not match {text:?}");
        }
    }

    #[track_caller]
    fn check_rejected(pattern: &str, expected: &str) {
        let error = Regex::new(pattern).map(|_| ()).expect_err(pattern).to_string();
        assert_eq!(error, format!("error parsing regexp: {expected}"));
    }

    #[test]
    fn what_only_go_accepts_means_the_same() {
        check(r"\Qa.b*\E+", &["a.b*", "a.b**"], &["axb"]);
        check("a{,5}", &["a{,5}"], &["a"]);
        check("{", &["{"], &[]);
        check("a{", &["a{"], &[]);
        check("a{1", &["a{1"], &[]);
        check("[[a]", &["[", "a"], &["b"]);
        check(r"\123", &["S"], &["s"]);
        check(r"[\w-z]", &["q", "-"], &["+"]);
        check("a}", &["a}"], &[]);
        check("[]a]", &["]", "a"], &[]);
        check("[a-]", &["a", "-"], &["b"]);
        check("(?<n>a)(?P<1>b)", &["ab"], &[]);
        check("^*a", &["a"], &[]);
    }

    #[test]
    fn classes_are_ascii() {
        check(r"\d", &["7"], &["\u{663}"]);
        check(r"\w+", &["a_Z9"], &["\u{e9}"]);
        check(r"\s", &[" ", "\t"], &["\u{a0}", "\x0b"]);
        check(r"\S\D\W", &["aa-"], &["aaa"]);
        check(r"[^\d\s]", &["a", "\u{663}"], &["1", " "]);
        check(r"a\b.*", &["a", "a b"], &["ab"]);
        check(r"\pL\p{Greek}\P{Greek}\p{^Greek}", &["\u{e9}\u{3b1}ab"], &["1\u{3b1}ab"]);
        check("[[:digit:][:^alpha:]]", &["1", "-"], &["a"]);
    }

    #[test]
    fn operators_of_classes_are_characters() {
        check("[a&&b]", &["a", "&", "b"], &[""]);
        check("[a~~b]", &["~"], &[]);
        check("[+--]", &["+", ",", "-"], &["a"]);
        check("[a^#[]", &["^", "#", "["], &[]);
        check(r"[\-\]\\]", &["-", "]", "\\"], &[]);
    }

    #[test]
    fn anchors_flags_and_lines() {
        check("(?i)abc", &["ABC"], &["ab"]);
        check("a.b", &["a\nb"], &[]);
        check("(?-s)a.b", &["axb"], &["a\nb"]);
        check("(?i:a)b", &["Ab"], &["AB"]);
        check("a#b c", &["a#b c"], &[]);
        check("\u{e9}+", &["\u{e9}\u{e9}"], &[]);
        check("(a|b)*?c", &["ababc"], &["d"]);
        check("a(?i)*b", &["aaB", "b"], &["AB"]);
    }

    #[test]
    fn what_go_rejects_is_rejected_in_its_words() {
        check_rejected("(", "missing closing ): `(`");
        check_rejected("a)", "unexpected ): `a)`");
        check_rejected("a**", "invalid nested repetition operator: `**`");
        check_rejected("x{2}{3}", "invalid nested repetition operator: `{2}{3}`");
        check_rejected("a{1001}", "invalid repeat count: `{1001}`");
        check_rejected("a{3,2}", "invalid repeat count: `{3,2}`");
        check_rejected("*a", "missing argument to repetition operator: `*`");
        check_rejected("(?:+)", "missing argument to repetition operator: `+`");
        check_rejected("(?x)a", "invalid or unsupported Perl syntax: `(?x`");
        check_rejected("(?R)", "invalid or unsupported Perl syntax: `(?R`");
        check_rejected("(?u-i)", "invalid or unsupported Perl syntax: `(?u`");
        check_rejected("(?=a)", "invalid or unsupported Perl syntax: `(?=`");
        check_rejected("(?P<a b>x)", "invalid named capture: `(?P<a b>`");
        check_rejected("[a", "missing closing ]: `[a`");
        check_rejected("[b-a]", "invalid character class range: `b-a`");
        check_rejected("[a--b]", "invalid character class range: `a--`");
        check_rejected(r"\p{Script=Latin}", r"invalid character class range: `\p{Script=Latin}`");
        check_rejected(r"\8", r"invalid escape sequence: `\8`");
        check_rejected(r"\1", r"invalid escape sequence: `\1`");
        check_rejected(r"\Z", r"invalid escape sequence: `\Z`");
        check_rejected("a\\", "trailing backslash at end of expression: ``");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_translation_panic(pattern in "\\PC{0,30}") {
            let _ = Regex::new(&pattern);
        }

        #[test]
        fn no_syntax_makes_the_translation_panic(
            parts in proptest::collection::vec(r"\(\?|\(|\)|\[|\]|\^|\{|\}|[0-9]|,|\\|[a-zQE]|\*|\+|\?|\||-|:|<|>|P|&", 0..20),
        ) {
            let _ = Regex::new(&parts.concat());
        }

        #[test]
        fn quoted_text_matches_itself(text in "\\PC{0,20}") {
            prop_assume!(!text.contains("\\E"));
            let regex = Regex::new(&format!("\\Q{text}\\E"));
            prop_assert!(regex.is_ok_and(|r| r.is_match(&text)));
        }
    }
}
