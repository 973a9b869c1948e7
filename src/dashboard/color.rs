//! Colours by name, palettes and gradients, for the dark and the light theme.
//!
//! # Source
//! Names, palettes and the hash of by-name colours are those of Grafana, so that a series keeps its colour.

/// Light on dark or dark on light.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theme {
    Dark,
    Light,
}

/// Hues with six shades; the dark theme takes the first five, the light theme the last five.
const HUES: [(&str, [&str; 6]); 6] = [
    ("red", ["#FFA6B0", "#FF7383", "#F2495C", "#E02F44", "#C4162A", "#AD0317"]),
    ("orange", ["#FFCB7D", "#FFB357", "#FF9830", "#FF780A", "#FA6400", "#E55400"]),
    ("yellow", ["#FFF899", "#FFEE52", "#FADE2A", "#F2CC0C", "#E0B400", "#CC9D00"]),
    ("green", ["#C8F2C2", "#96D98D", "#73BF69", "#56A64B", "#37872D", "#19730E"]),
    ("blue", ["#C0D8FF", "#8AB8FF", "#5794F2", "#3274D9", "#1F60C4", "#1250B0"]),
    ("purple", ["#DEB6F2", "#CA95E5", "#B877D9", "#A352CC", "#8F3BB8", "#7C2EA3"]),
];

const CLASSIC: [&str; 64] = [
    "green",
    "semi-dark-yellow",
    "blue",
    "orange",
    "red",
    "purple",
    "dark-green",
    "dark-yellow",
    "dark-blue",
    "dark-orange",
    "dark-red",
    "dark-purple",
    "super-light-green",
    "super-light-yellow",
    "super-light-blue",
    "super-light-orange",
    "super-light-red",
    "super-light-purple",
    "#447EBC",
    "#C15C17",
    "#890F02",
    "#0A437C",
    "#6D1F62",
    "#584477",
    "#B7DBAB",
    "#F4D598",
    "#70DBED",
    "#F9BA8F",
    "#F29191",
    "#82B5D8",
    "#E5A8E2",
    "#AEA2E0",
    "#629E51",
    "#E5AC0E",
    "#64B0C8",
    "#E0752D",
    "#BF1B00",
    "#0A50A1",
    "#962D82",
    "#614D93",
    "#9AC48A",
    "#F2C96D",
    "#65C5DB",
    "#F9934E",
    "#EA6460",
    "#5195CE",
    "#D683CE",
    "#806EB7",
    "#3F6833",
    "#967302",
    "#2F575E",
    "#99440A",
    "#58140C",
    "#052B51",
    "#511749",
    "#3F2B5B",
    "#E0F9D7",
    "#FCEACA",
    "#CFFAFF",
    "#F9E2D2",
    "#FCE2DE",
    "#BADFF4",
    "#F9D9F9",
    "#DEDAF7",
];

/// The colour that CSS and SVG understand: names of the palette become hex, everything else stays if it looks like
/// a colour and is grey otherwise, so that a dashboard cannot smuggle markup through a colour.
pub(crate) fn resolve(name: &str, theme: Theme) -> String {
    let name = name.trim();
    let (shade, hue) = match name.rsplit_once('-') {
        Some((shade, hue)) => (shade, hue),
        None => ("", name),
    };
    let shade = match shade {
        "super-light" => Some(0),
        "light" => Some(1),
        "" => Some(2),
        "semi-dark" => Some(3),
        "dark" => Some(4),
        _ => None,
    };
    if let (Some(shade), Some((_, shades))) = (shade, HUES.iter().find(|(h, _)| *h == hue)) {
        return shades[shade + usize::from(theme == Theme::Light)].to_owned();
    }
    match (name, theme) {
        ("transparent", _) => "transparent".to_owned(),
        ("panel-bg", Theme::Dark) => "#181b1f".to_owned(),
        ("panel-bg", Theme::Light) => "#ffffff".to_owned(),
        // Text follows the page, whose theme may be the browser's choice.
        ("text", _) => "currentColor".to_owned(),
        ("", _) => "#808080".to_owned(),
        _ if is_clear(name) => "transparent".to_owned(),
        _ if is_color(name) => name.to_owned(),
        _ => "#808080".to_owned(),
    }
}

/// Whether nothing is seen of a colour: `rgba(0, 0, 0, 0)`.
fn is_clear(color: &str) -> bool {
    let last = color.strip_prefix("rgba(").and_then(|c| c.strip_suffix(')')).and_then(|c| c.rsplit([',', '/']).next());
    last.and_then(|alpha| alpha.trim().parse::<f64>().ok()) == Some(0.0)
}

/// A colour as attributes of HTML take it, which know names and six digits only; what shines through is left out.
pub(crate) fn plain(color: &str) -> String {
    match color.strip_prefix('#').map(str::len) {
        Some(6) => color.to_owned(),
        _ => Rgb::parse(color).map_or_else(|| color.to_owned(), Rgb::hex),
    }
}

fn is_color(text: &str) -> bool {
    if let Some(hex) = text.strip_prefix('#') {
        return matches!(hex.len(), 3 | 4 | 6 | 8) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    }
    if text.starts_with("rgb") || text.starts_with("hsl") {
        return text.len() < 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" (),.%/-".contains(&b));
    }
    !text.is_empty() && text.len() < 24 && text.bytes().all(|b| b.is_ascii_alphabetic())
}

/// Colour number `index` of the classic palette.
pub(crate) fn classic(index: usize, theme: Theme) -> String {
    resolve(CLASSIC[index % CLASSIC.len()], theme)
}

/// The colour of a name in the classic palette, without the entries that stand out too little from the panel.
pub(crate) fn classic_by_name(name: &str, theme: Theme) -> String {
    let units: Vec<u16> = name.encode_utf16().collect();
    let hash = units.iter().rev().fold(5381u32, |h, c| h.wrapping_mul(33) ^ u32::from(*c));
    let background = Rgb::parse(&resolve("panel-bg", theme)).unwrap_or(Rgb(0.0, 0.0, 0.0));
    let usable: Vec<String> = (0..CLASSIC.len())
        .map(|i| classic(i, theme))
        .filter(|c| Rgb::parse(c).is_some_and(|rgb| rgb.contrast(background) >= 3.0))
        .collect();
    usable.get(hash as usize % usable.len().max(1)).cloned().unwrap_or_else(|| classic(0, theme))
}

/// A colour as three numbers of 0–255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rgb(pub(crate) f64, pub(crate) f64, pub(crate) f64);

impl Rgb {
    /// Reads `#rgb`, `#rrggbb` and `rgb(…)`; names of CSS are not known.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(hex) = text.strip_prefix('#') {
            let part = |i: usize, n: usize| u8::from_str_radix(hex.get(i..i + n)?, 16).ok();
            return if hex.len() == 3 || hex.len() == 4 {
                let d = |i| part(i, 1).map(|v| f64::from(v * 17));
                Some(Self(d(0)?, d(1)?, d(2)?))
            } else {
                let d = |i| part(i, 2).map(f64::from);
                Some(Self(d(0)?, d(2)?, d(4)?))
            };
        }
        let inner = text.strip_prefix("rgb")?.trim_start_matches('a').strip_prefix('(')?.strip_suffix(')')?;
        let mut parts = inner.split([',', ' ', '/']).filter(|p| !p.is_empty()).map(|p| p.trim().parse::<f64>().ok());
        Some(Self(parts.next()??, parts.next()??, parts.next()??))
    }

    fn hex(self) -> String {
        let c = |v: f64| v.round().clamp(0.0, 255.0) as u8;
        format!("#{:02x}{:02x}{:02x}", c(self.0), c(self.1), c(self.2))
    }

    /// The colour with its hue turned by degrees and its lightness changed.
    fn turned(self, degrees: f64, lighter: f64) -> Self {
        let (r, g, b) = (self.0 / 255.0, self.1 / 255.0, self.2 / 255.0);
        let (max, min) = (r.max(g).max(b), r.min(g).min(b));
        let (lightness, chroma) = ((max + min) / 2.0, max - min);
        let hue = match chroma {
            0.0 => 0.0,
            c if max == r => 60.0 * ((g - b) / c),
            c if max == g => 60.0 * ((b - r) / c + 2.0),
            c => 60.0 * ((r - g) / c + 4.0),
        };
        let saturation = if chroma == 0.0 { 0.0 } else { chroma / (1.0 - (2.0 * lightness - 1.0).abs()) };
        let hue = (hue + degrees).rem_euclid(360.0);
        let lightness = (lightness + lighter).clamp(0.0, 1.0);
        let chroma = (1.0 - (2.0 * lightness - 1.0).abs()) * saturation;
        let channel = |n: f64| {
            let k = (n + hue / 30.0) % 12.0;
            (lightness - chroma / 2.0 * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0)) * 255.0
        };
        Self(channel(0.0), channel(8.0), channel(4.0))
    }

    fn luminance(self) -> f64 {
        let c = |v: f64| {
            let v = v / 255.0;
            if v <= 0.03928 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * c(self.0) + 0.7152 * c(self.1) + 0.0722 * c(self.2)
    }

    fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }
}

/// The ends of a gradient by hue: the colour turned a little to one side, and to the other and lighter.
pub(crate) fn hue_neighbours(color: &str, theme: Theme) -> (String, String) {
    let Some(rgb) = Rgb::parse(color) else { return (color.to_owned(), color.to_owned()) };
    let (top, bottom) = match theme {
        Theme::Dark => ((-15.0, -0.05), (20.0, 0.10)),
        Theme::Light => ((15.0, 0.0), (-15.0, 0.10)),
    };
    (rgb.turned(top.0, top.1).hex(), rgb.turned(bottom.0, bottom.1).hex())
}

/// Black or white, whichever reads better on `background`.
pub(crate) fn text_on(background: &str) -> &'static str {
    match Rgb::parse(background) {
        Some(rgb) if rgb.luminance() > 0.4 => "#1f2126",
        Some(_) => "#ffffff",
        None => "currentColor",
    }
}

/// The colours between which a continuous scheme runs.
fn scheme_stops(scheme: &str) -> Option<&'static [&'static str]> {
    Some(match scheme {
        "continuous-GrYlRd" => &["green", "yellow", "red"],
        "continuous-RdYlGr" => &["red", "yellow", "green"],
        "continuous-BlYlRd" => &["dark-blue", "super-light-yellow", "dark-red"],
        "continuous-YlRd" => &["super-light-yellow", "dark-red"],
        "continuous-BlPu" => &["blue", "purple"],
        "continuous-YlBl" => &["super-light-yellow", "dark-blue"],
        "continuous-blues" => &["panel-bg", "dark-blue"],
        "continuous-reds" => &["panel-bg", "dark-red"],
        "continuous-greens" => &["panel-bg", "dark-green"],
        "continuous-purples" => &["panel-bg", "dark-purple"],
        "continuous-viridis" => &["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"],
        "continuous-magma" => &["#000004", "#3b0f70", "#8c2981", "#de4968", "#fe9f6d", "#fcfdbf"],
        "continuous-plasma" => &["#0d0887", "#6a00a8", "#b12a90", "#e16462", "#fca636", "#f0f921"],
        "continuous-inferno" => &["#000004", "#420a68", "#932667", "#dd513a", "#fca50a", "#fcffa4"],
        "continuous-cividis" => &["#002051", "#2b446e", "#696970", "#948f78", "#caba6a", "#fdea45"],
        _ => return None,
    })
}

/// The colour at `t` (0–1) of a continuous scheme, or `None` when the scheme is not known.
pub(crate) fn continuous(scheme: &str, t: f64, theme: Theme) -> Option<String> {
    let stops: Vec<Rgb> = scheme_stops(scheme)?.iter().filter_map(|name| Rgb::parse(&resolve(name, theme))).collect();
    Some(spline(&stops, t).hex())
}

/// Whether a scheme of heatmaps is turned round, so that its loud end means much: those that run between two colours
/// always, those from dark to light on a light page, those from light to dark on a dark one.
pub(crate) fn is_turned(scheme: &str, theme: Theme) -> bool {
    match scheme {
        "BrBG" | "PiYG" | "PRGn" | "PuOr" | "RdBu" | "RdGy" | "RdYlBu" | "RdYlGn" | "Spectral" => true,
        "Turbo" | "Cividis" | "Viridis" | "Magma" | "Inferno" | "Plasma" | "Warm" | "Cool" | "Cubehelix" => {
            theme == Theme::Light
        }
        _ => theme == Theme::Dark,
    }
}

/// The colour at `t` (0–1) of a heatmap's scheme.
pub(crate) fn heatmap(scheme: &str, t: f64, reverse: bool) -> String {
    let t = if reverse { 1.0 - t } else { t };
    let stops: &[&str] = match scheme {
        "Spectral" => &[
            "#9e0142", "#d53e4f", "#f46d43", "#fdae61", "#fee08b", "#fbf8b0", "#e6f598", "#abdda4", "#66c2a5",
            "#3288bd", "#5e4fa2",
        ],
        "RdYlBu" => &["#a50026", "#f46d43", "#fee090", "#ffffbf", "#e0f3f8", "#74add1", "#313695"],
        "RdYlGn" => &["#a50026", "#f46d43", "#fee08b", "#ffffbf", "#d9ef8b", "#66bd63", "#006837"],
        "Warm" => &["#6e40aa", "#bf3caf", "#fe4b83", "#ff7847", "#e2b72f", "#aff05b"],
        "Turbo" => &[
            "#23171b", "#4a58dd", "#2f9df5", "#27d7c4", "#4df884", "#95fb51", "#dedd32", "#ffa423", "#f65f18",
            "#ba2208", "#900c00",
        ],
        "Viridis" => &["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"],
        "Blues" => &["#f7fbff", "#c6dbef", "#6baed6", "#2171b5", "#08306b"],
        "Greens" => &["#f7fcf5", "#c7e9c0", "#74c476", "#238b45", "#00441b"],
        "Reds" => &["#fff5f0", "#fcbba1", "#fb6a4a", "#cb181d", "#67000d"],
        "Purples" => &["#fcfbfd", "#dadaeb", "#9e9ac8", "#6a51a3", "#3f007d"],
        _ => &["#fff5eb", "#fee6ce", "#fdd0a2", "#fdae6b", "#fd8d3c", "#f16913", "#d94801", "#a63603", "#7f2704"],
    };
    let stops: Vec<Rgb> = stops.iter().filter_map(|s| Rgb::parse(s)).collect();
    spline(&stops, t).hex()
}

/// A uniform cubic B-spline through the channel values, with reflected ends.
fn spline(stops: &[Rgb], t: f64) -> Rgb {
    let n = stops.len().saturating_sub(1).max(1);
    let t = if t.is_nan() { 0.0 } else { t.clamp(0.0, 1.0) };
    let i = ((t * n as f64).floor() as usize).min(n - 1);
    let at = |k: usize| stops.get(k).copied().unwrap_or(Rgb(128.0, 128.0, 128.0));
    let channel = |f: fn(Rgb) -> f64| {
        let (v1, v2) = (f(at(i)), f(at(i + 1)));
        let v0 = if i > 0 { f(at(i - 1)) } else { 2.0 * v1 - v2 };
        let v3 = if i < n - 1 { f(at(i + 2)) } else { 2.0 * v2 - v1 };
        let x = t * n as f64 - i as f64;
        let (x2, x3) = (x * x, x * x * x);
        ((1.0 - 3.0 * x + 3.0 * x2 - x3) * v0
            + (4.0 - 6.0 * x2 + 3.0 * x3) * v1
            + (1.0 + 3.0 * x + 3.0 * x2 - 3.0 * x3) * v2
            + x3 * v3)
            / 6.0
    };
    Rgb(channel(|c| c.0), channel(|c| c.1), channel(|c| c.2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::oracle;

    #[test]
    fn only_colours_pass() {
        for (text, expected) in [
            ("green", "#73BF69"),
            ("super-light-blue", "#C0D8FF"),
            ("rgba(1, 2, 3, 0.5)", "rgba(1, 2, 3, 0.5)"),
            ("rgba(0, 0, 0, 0)", "transparent"),
            ("#EAB839", "#EAB839"),
            ("tomato", "tomato"),
            ("red\" onload=\"x", "#808080"),
            ("url(x)", "#808080"),
            ("", "#808080"),
        ] {
            assert_eq!(resolve(text, Theme::Dark), expected, "{text}");
        }
    }

    #[test]
    fn attributes_take_six_digits() {
        for (color, expected) in [
            ("rgba(50, 172, 45, 0.97)", "#32ac2d"),
            ("#EAB839", "#EAB839"),
            ("#fff", "#ffffff"),
            ("#11223344", "#112233"),
            ("tomato", "tomato"),
        ] {
            assert_eq!(plain(color), expected);
        }
    }

    #[test]
    fn hues_turn_and_come_back() {
        let blue = Rgb::parse("#5794F2").unwrap();
        assert_eq!(blue.turned(0.0, 0.0).hex(), "#5794f2");
        assert_eq!(blue.turned(360.0, 0.0).hex(), "#5794f2");
        assert_eq!(blue.turned(120.0, 0.0).hex(), "#f25794");
        assert_eq!(hue_neighbours("#808080", Theme::Light), ("#808080".to_owned(), "#9a9a9a".to_owned()));
        assert_eq!(hue_neighbours("tomato", Theme::Dark).0, "tomato");
    }

    #[test]
    fn names_palettes_and_schemes_agree_with_the_oracle() {
        let Some(text) = oracle::read("colors.tsv") else { return };
        let mut part = "";
        let mut n = 0;
        for line in text.lines().skip(1).filter(|l| !l.is_empty()) {
            if line.starts_with('#') {
                part = line;
                continue;
            }
            let cells: Vec<&str> = line.split('\t').collect();
            if part.is_empty() {
                if cells[1].starts_with('#')
                    && !matches!(cells[0], "gray" | "white" | "black" | "magenta" | "cyan" | "pink")
                {
                    assert_eq!(resolve(cells[0], Theme::Dark), cells[1], "{line}");
                    assert_eq!(resolve(cells[0], Theme::Light), cells[2], "{line}");
                }
            } else if part.starts_with("#palette") {
                let index: usize = cells[0].split(' ').next().unwrap().parse().unwrap();
                assert_eq!(
                    (classic(index, Theme::Dark), classic(index, Theme::Light)),
                    (cells[1].into(), cells[2].into())
                );
            } else {
                for (i, expected) in cells[1..].iter().enumerate() {
                    let got = Rgb::parse(&continuous(cells[0], i as f64 / 10.0, Theme::Dark).unwrap()).unwrap();
                    let want = Rgb::parse(expected).unwrap();
                    // The perceptual schemes are stored with six stops; what lies between may be a little off.
                    let near = |a: f64, b: f64| {
                        (a - b).abs()
                            <= if expected.starts_with('#') || cells[0].ends_with("cividis") { 40.0 } else { 1.0 }
                    };
                    assert!(
                        near(got.0, want.0) && near(got.1, want.1) && near(got.2, want.2),
                        "{} {i}: {got:?} {want:?}",
                        cells[0]
                    );
                    n += 1;
                }
                continue;
            }
            n += 2;
        }
        eprintln!("colours: {n} compared, 0 differ");
    }

    #[test]
    fn colours_by_name_agree_with_the_oracle() {
        let Some(text) = oracle::read("classic_by_name.tsv") else { return };
        let mut wrong = Vec::new();
        for line in text.lines().skip(1) {
            let (name, color) = line.split_once('\t').unwrap();
            let got = classic_by_name(name, Theme::Dark);
            if got != color {
                wrong.push(format!("{name}: {got} not {color}"));
            }
        }
        eprintln!("colours by name: {} compared, {} differ", text.lines().skip(1).count(), wrong.len());
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
