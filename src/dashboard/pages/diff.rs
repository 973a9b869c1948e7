//! What changed between two texts, line by line.
//!
//! # Source
//! E. Myers, "An O(ND) difference algorithm and its variations", 1986: the shortest edit script, found greedily.

/// Lines of both texts together that are compared; longer ones are shown as removed and added.
const LINES_MAX: usize = 200_000;
/// Changed lines up to which the shortest script is looked for: memory grows with its square.
const CHANGES_MAX: usize = 3_000;
/// Lines around a change that are shown.
const AROUND: usize = 3;

/// A line of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Same(&'a str),
    Removed(&'a str),
    Added(&'a str),
    /// So many equal lines are left out.
    Skipped(usize),
}

/// The lines of both texts, equal ones far from any change left out.
pub(crate) fn diff<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (mid_a, mid_b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut out: Vec<Line<'a>> = a[..head].iter().map(|l| Line::Same(l)).collect();
    match script(mid_a, mid_b) {
        Some(lines) => out.extend(lines),
        None => {
            out.extend(mid_a.iter().map(|l| Line::Removed(l)));
            out.extend(mid_b.iter().map(|l| Line::Added(l)));
        }
    }
    out.extend(a[a.len() - tail..].iter().map(|l| Line::Same(l)));
    folded(&out)
}

/// The shortest script from `a` to `b`; none when it is too long to look for.
fn script<'a>(a: &[&'a str], b: &[&'a str]) -> Option<Vec<Line<'a>>> {
    let (n, m) = (a.len(), b.len());
    if n + m > LINES_MAX {
        return None;
    }
    // `furthest[d + k]` is how far in `a` a script of `depth` changes comes on diagonal k.
    let limit = (n + m).min(CHANGES_MAX);
    let offset = limit + 1;
    let mut furthest = vec![0usize; 2 * limit + 3];
    let mut trace = Vec::new();
    for depth in 0..=limit {
        trace.push(furthest[offset - depth..=offset + depth].to_vec());
        let mut k = -(depth as isize);
        while k <= depth as isize {
            let at = (offset as isize + k) as usize;
            let goes_down = k == -(depth as isize) || k != depth as isize && furthest[at - 1] < furthest[at + 1];
            let mut x = if goes_down { furthest[at + 1] } else { furthest[at - 1] + 1 };
            let mut y = (x as isize - k) as usize;
            while x < n && y < m && a[x] == b[y] {
                x += 1;
                y += 1;
            }
            furthest[at] = x;
            if x >= n && y >= m {
                return Some(walk_back(a, b, &trace, depth));
            }
            k += 2;
        }
    }
    None
}

fn walk_back<'a>(a: &[&'a str], b: &[&'a str], trace: &[Vec<usize>], depth: usize) -> Vec<Line<'a>> {
    let (mut x, mut y) = (a.len(), b.len());
    let mut out = Vec::new();
    for d in (1..=depth).rev() {
        // The state before step d covers diagonals from -d to d.
        let state = |k: isize| trace[d].get((k + d as isize) as usize).copied().unwrap_or(0);
        let k = x as isize - y as isize;
        let goes_down = k == -(d as isize) || k != d as isize && state(k - 1) < state(k + 1);
        let before_k = if goes_down { k + 1 } else { k - 1 };
        let before_x = state(before_k);
        let before_y = (before_x as isize - before_k) as usize;
        while x > before_x && y > before_y && x > 0 && y > 0 && a[x - 1] == b[y - 1] {
            out.push(Line::Same(a[x - 1]));
            x -= 1;
            y -= 1;
        }
        if goes_down {
            y = before_y;
            out.push(Line::Added(b[y]));
        } else {
            x = before_x;
            out.push(Line::Removed(a[x]));
        }
    }
    while x > 0 && y > 0 {
        x -= 1;
        y -= 1;
        out.push(Line::Same(a[x]));
    }
    out.reverse();
    out
}

fn folded<'a>(lines: &[Line<'a>]) -> Vec<Line<'a>> {
    let mut near = vec![false; lines.len()];
    for (i, _) in lines.iter().enumerate().filter(|(_, l)| !matches!(l, Line::Same(_))) {
        near[i.saturating_sub(AROUND)..(i + AROUND + 1).min(lines.len())].fill(true);
    }
    let mut out = Vec::new();
    for (line, near) in lines.iter().zip(near) {
        match (near, out.last_mut()) {
            (true, _) => out.push(*line),
            (false, Some(Line::Skipped(n))) => *n += 1,
            (false, _) => out.push(Line::Skipped(1)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(old: &str, new: &str, expected: &str) {
        let text: Vec<String> = diff(&old.replace(' ', "\n"), &new.replace(' ', "\n"))
            .iter()
            .map(|l| match l {
                Line::Same(t) => (*t).to_owned(),
                Line::Removed(t) => format!("-{t}"),
                Line::Added(t) => format!("+{t}"),
                Line::Skipped(n) => format!("…{n}"),
            })
            .collect();
        assert_eq!(text.join(" "), expected, "{old} to {new}");
    }

    #[test]
    fn the_shortest_change_is_shown() {
        check("a b c", "a b c", "…3");
        check("a b c", "a x c", "a -b +x c");
        check("a b c a b b a", "c b a b a c", "-a -b c +b a b -b a +c");
        check("", "a b", "+a +b");
        check("a b", "", "-a -b");
        check("1 2 3 4 5 6 7 8 9", "1 2 3 4 x 6 7 8 9", "…1 2 3 4 -5 +x 6 7 8 …1");
    }

    #[test]
    fn every_script_leads_from_one_text_to_the_other() {
        let mut seed = 7u64;
        let mut dice = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for _ in 0..300 {
            let mut text = || (0..dice(12)).map(|_| ["a", "b", "c"][dice(3) as usize]).collect::<Vec<_>>();
            let (a, b) = (text(), text());
            let lines = script(&a, &b).unwrap();
            let kept = |wanted: fn(&Line<'_>) -> bool| {
                lines
                    .iter()
                    .filter(|l| wanted(l))
                    .map(|l| match l {
                        Line::Same(t) | Line::Removed(t) | Line::Added(t) => *t,
                        Line::Skipped(_) => "",
                    })
                    .collect::<Vec<_>>()
            };
            assert_eq!(kept(|l| !matches!(l, Line::Added(_))), a);
            assert_eq!(kept(|l| !matches!(l, Line::Removed(_))), b);
        }
    }
}
