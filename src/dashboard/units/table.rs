//! The unit ids and what they mean.

use super::special::Special;
use super::{Ladder, Rung, Unit};

/// What an id stands for, before it is built into a [`Ladder`].
enum Def {
    /// Suffix as it is.
    Plain(&'static str),
    /// Factor, then suffix.
    Times(f64, &'static str),
    /// Decimal prefixes; the id counts in 1000^n of the unit.
    Si(&'static str, i32),
    /// Binary prefixes; the id counts in 1024^n of the unit.
    Iec(&'static str, i32),
    /// K, M, B, T, then a blank and the noun.
    Count(&'static str),
    /// Currency symbol before the number.
    Money(&'static str),
    /// Currency symbol after the number.
    MoneyAfter(&'static str),
    /// Time units: name and its length in the base unit; the last of the list has no upper end.
    Time(&'static [(f64, f64, &'static str)]),
}

use Def::{Count, Iec, Money, MoneyAfter, Plain, Si, Time, Times};

/// From, scale, name of the unit (with plural `s` from minutes up).
const SECONDS: &[(f64, f64, &str)] = &[
    (0.0, 1e-9, "ns"),
    (1e-6, 1e-6, "µs"),
    (1e-3, 1e-3, "ms"),
    (1.0, 1.0, "s"),
    (60.0, 60.0, "min"),
    (3600.0, 3600.0, "hour"),
    (86_400.0, 86_400.0, "day"),
    (604_800.0, 604_800.0, "week"),
    (31_536_000.0, 31_556_900.0, "year"),
];
const MILLISECONDS: &[(f64, f64, &str)] = &[
    (0.0, 1.0, "ms"),
    (1e3, 1e3, "s"),
    (6e4, 6e4, "min"),
    (3.6e6, 3.6e6, "hour"),
    (8.64e7, 8.64e7, "day"),
    (3.1536e10, 3.1536e10, "year"),
];
const MICROSECONDS: &[(f64, f64, &str)] = &[(0.0, 1.0, "µs"), (1e3, 1e3, "ms"), (1e6, 1e6, "s")];
const NANOSECONDS: &[(f64, f64, &str)] = &[
    (0.0, 1.0, "ns"),
    (1e3, 1e3, "µs"),
    (1e6, 1e6, "ms"),
    (1e9, 1e9, "s"),
    (6e10, 6e10, "min"),
    (3.6e12, 3.6e12, "hour"),
    (8.64e13, 8.64e13, "day"),
];
const MINUTES: &[(f64, f64, &str)] = &[
    (0.0, 1.0, "min"),
    (60.0, 60.0, "hour"),
    (1440.0, 1440.0, "day"),
    (10_080.0, 10_080.0, "week"),
    (604_800.0, 525_948.0, "year"),
];
const HOURS: &[(f64, f64, &str)] =
    &[(0.0, 1.0, "hour"), (24.0, 24.0, "day"), (168.0, 168.0, "week"), (8760.0, 8760.0, "year")];
const DAYS: &[(f64, f64, &str)] = &[(0.0, 1.0, "day"), (7.0, 7.0, "week"), (365.0, 365.0, "year")];
const TIMETICKS: &[(f64, f64, &str)] = &[
    (0.0, 1e-7, "ns"),
    (1e-4, 1e-4, "µs"),
    (1e-1, 1e-1, "ms"),
    (1e2, 1e2, "s"),
    (6e3, 6e3, "min"),
    (3.6e5, 3.6e5, "hour"),
    (8.64e6, 8.64e6, "day"),
    (6.048e7, 6.048e7, "week"),
    (3.1536e9, 3.15569e9, "year"),
];

const TABLE: &[(&str, Def)] = &[
    ("none", Plain("")),
    ("", Plain("")),
    ("percent", Plain("%")),
    ("percentunit", Times(100.0, "%")),
    ("humidity", Plain(" %H")),
    ("dB", Plain(" dB")),
    ("dBm", Plain(" dBm")),
    ("candela", Plain(" cd")),
    ("pixel", Plain(" px")),
    ("sishort", Si("", 0)),
    ("accMS2", Plain(" m/sec²")),
    ("accFS2", Plain(" f/sec²")),
    ("accG", Plain(" g")),
    ("degree", Plain(" °")),
    ("radian", Plain(" rad")),
    ("grad", Plain(" grad")),
    ("arcmin", Plain(" arcmin")),
    ("arcsec", Plain(" arcsec")),
    ("areaM2", Plain(" m²")),
    ("areaF2", Plain(" ft²")),
    ("areaMI2", Plain(" mi²")),
    ("acres", Plain(" ac")),
    ("hectares", Plain(" ha")),
    ("flops", Si("FLOPS", 0)),
    ("mflops", Si("FLOPS", 2)),
    ("gflops", Si("FLOPS", 3)),
    ("tflops", Si("FLOPS", 4)),
    ("pflops", Si("FLOPS", 5)),
    ("eflops", Si("FLOPS", 6)),
    ("zflops", Si("FLOPS", 7)),
    ("yflops", Si("FLOPS", 8)),
    ("ppm", Plain(" ppm")),
    ("conppb", Plain(" ppb")),
    ("conngm3", Plain(" ng/m³")),
    ("conngNm3", Plain(" ng/Nm³")),
    ("conμgm3", Plain(" μg/m³")),
    ("conμgNm3", Plain(" μg/Nm³")),
    ("conmgm3", Plain(" mg/m³")),
    ("conmgNm3", Plain(" mg/Nm³")),
    ("congm3", Plain(" g/m³")),
    ("congNm3", Plain(" g/Nm³")),
    ("conmgdL", Plain(" mg/dL")),
    ("conmmolL", Plain(" mmol/L")),
    ("currencyUSD", Money("$")),
    ("currencyGBP", Money("£")),
    ("currencyEUR", Money("€")),
    ("currencyJPY", Money("¥")),
    ("currencyRUB", Money("₽")),
    ("currencyUAH", Money("₴")),
    ("currencyBRL", Money("R$")),
    ("currencyDKK", MoneyAfter("kr")),
    ("currencyISK", MoneyAfter("kr")),
    ("currencyNOK", MoneyAfter("kr")),
    ("currencySEK", MoneyAfter("kr")),
    ("currencyCZK", Money("czk")),
    ("currencyCHF", Money("CHF")),
    ("currencyPLN", Money("PLN")),
    ("currencyBTC", Money("฿")),
    ("currencymBTC", Money("m฿")),
    ("currencyμBTC", Money("μ฿")),
    ("currencyZAR", Money("R")),
    ("currencyINR", Money("₹")),
    ("currencyKRW", Money("₩")),
    ("currencyIDR", Money("Rp")),
    ("currencyPHP", Money("PHP")),
    ("currencyVND", MoneyAfter("đ")),
    ("currencyTRY", Money("₺")),
    ("currencyMYR", Money("RM")),
    ("currencyXPF", Money("XPF")),
    ("currencyBGN", Money("BGN")),
    ("currencyPYG", Money("₲")),
    ("currencyUYU", Money("UYU")),
    ("currencyILS", Money("₪")),
    ("bytes", Iec("B", 0)),
    ("decbytes", Si("B", 0)),
    ("bits", Iec("b", 0)),
    ("decbits", Si("b", 0)),
    ("kbytes", Iec("B", 1)),
    ("deckbytes", Si("B", 1)),
    ("mbytes", Iec("B", 2)),
    ("decmbytes", Si("B", 2)),
    ("gbytes", Iec("B", 3)),
    ("decgbytes", Si("B", 3)),
    ("tbytes", Iec("B", 4)),
    ("dectbytes", Si("B", 4)),
    ("pbytes", Iec("B", 5)),
    ("decpbytes", Si("B", 5)),
    ("pps", Si("p/s", 0)),
    ("binBps", Iec("B/s", 0)),
    ("Bps", Si("B/s", 0)),
    ("binbps", Iec("b/s", 0)),
    ("bps", Si("b/s", 0)),
    ("KiBs", Iec("B/s", 1)),
    ("Kibits", Iec("b/s", 1)),
    ("KBs", Si("B/s", 1)),
    ("Kbits", Si("b/s", 1)),
    ("MiBs", Iec("B/s", 2)),
    ("Mibits", Iec("b/s", 2)),
    ("MBs", Si("B/s", 2)),
    ("Mbits", Si("b/s", 2)),
    ("GiBs", Iec("B/s", 3)),
    ("Gibits", Iec("b/s", 3)),
    ("GBs", Si("B/s", 3)),
    ("Gbits", Si("b/s", 3)),
    ("TiBs", Iec("B/s", 4)),
    ("Tibits", Iec("b/s", 4)),
    ("TBs", Si("B/s", 4)),
    ("Tbits", Si("b/s", 4)),
    ("PiBs", Iec("B/s", 5)),
    ("Pibits", Iec("b/s", 5)),
    ("PBs", Si("B/s", 5)),
    ("Pbits", Si("b/s", 5)),
    ("watt", Si("W", 0)),
    ("kwatt", Si("W", 1)),
    ("megwatt", Si("W", 2)),
    ("gwatt", Si("W", 3)),
    ("mwatt", Si("W", -1)),
    ("Wm2", Plain(" W/m²")),
    ("voltamp", Si("VA", 0)),
    ("kvoltamp", Si("VA", 1)),
    ("voltampreact", Si("VAr", 0)),
    ("kvoltampreact", Si("VAr", 1)),
    ("watth", Si("Wh", 0)),
    ("watthperkg", Si("Wh/kg", 0)),
    ("kwatth", Si("Wh", 1)),
    ("kwattm", Si("W-Min", 1)),
    ("mwatth", Si("Wh", 2)),
    ("amph", Si("Ah", 0)),
    ("kamph", Si("Ah", 1)),
    ("mamph", Si("Ah", -1)),
    ("joule", Si("J", 0)),
    ("ev", Si("eV", 0)),
    ("amp", Si("A", 0)),
    ("kamp", Si("A", 1)),
    ("mamp", Si("A", -1)),
    ("volt", Si("V", 0)),
    ("kvolt", Si("V", 1)),
    ("mvolt", Si("V", -1)),
    ("mohm", Si("Ω", -1)),
    ("ohm", Si("Ω", 0)),
    ("kohm", Si("Ω", 1)),
    ("Mohm", Si("Ω", 2)),
    ("farad", Si("F", 0)),
    ("µfarad", Si("F", -2)),
    ("nfarad", Si("F", -3)),
    ("pfarad", Si("F", -4)),
    ("ffarad", Si("F", -5)),
    ("henry", Si("H", 0)),
    ("mhenry", Si("H", -1)),
    ("µhenry", Si("H", -2)),
    ("lumens", Si("Lm", 0)),
    ("flowgpm", Plain(" gpm")),
    ("flowcms", Plain(" cms")),
    ("flowcfs", Plain(" cfs")),
    ("flowcfm", Plain(" cfm")),
    ("litreh", Plain(" L/h")),
    ("flowlpm", Plain(" L/min")),
    ("flowmlpm", Plain(" mL/min")),
    ("lux", Plain(" lux")),
    ("forceNm", Si("Nm", 0)),
    ("forcekNm", Si("Nm", 1)),
    ("forceN", Si("N", 0)),
    ("forcekN", Si("N", 1)),
    ("Hs", Si("H/s", 0)),
    ("KHs", Si("H/s", 1)),
    ("MHs", Si("H/s", 2)),
    ("GHs", Si("H/s", 3)),
    ("THs", Si("H/s", 4)),
    ("PHs", Si("H/s", 5)),
    ("EHs", Si("H/s", 6)),
    ("massmg", Si("g", -1)),
    ("massg", Si("g", 0)),
    ("masslb", Plain(" lb")),
    ("masskg", Si("g", 1)),
    ("masst", Plain(" t")),
    ("lengthmm", Si("m", -1)),
    ("lengthcm", Plain(" cm")),
    ("lengthin", Plain(" in")),
    ("lengthft", Plain(" ft")),
    ("lengthm", Si("m", 0)),
    ("lengthkm", Si("m", 1)),
    ("lengthmi", Plain(" mi")),
    ("pressurembar", Si("bar", -1)),
    ("pressurebar", Si("bar", 0)),
    ("pressurekbar", Si("bar", 1)),
    ("pressurepa", Si("Pa", 0)),
    ("pressurehpa", Plain(" hPa")),
    ("pressurekpa", Plain(" kPa")),
    ("pressurehg", Plain(" \"Hg")),
    ("pressurepsi", Si("psi", 0)),
    ("radbq", Si("Bq", 0)),
    ("radci", Si("Ci", 0)),
    ("radgy", Si("Gy", 0)),
    ("radrad", Si("rad", 0)),
    ("radsv", Si("Sv", 0)),
    ("radmsv", Si("Sv", -1)),
    ("radusv", Si("Sv", -2)),
    ("radrem", Si("rem", 0)),
    ("radexpckg", Si("C/kg", 0)),
    ("radr", Si("R", 0)),
    ("radsvh", Si("Sv/h", 0)),
    ("radmsvh", Si("Sv/h", -1)),
    ("radusvh", Si("Sv/h", -2)),
    ("rotrpm", Plain(" rpm")),
    ("rothz", Si("Hz", 0)),
    ("rotkhz", Si("Hz", 1)),
    ("rotmhz", Si("Hz", 2)),
    ("rotghz", Si("Hz", 3)),
    ("rotrads", Plain(" rad/s")),
    ("rotdegs", Plain(" °/s")),
    ("celsius", Plain(" °C")),
    ("fahrenheit", Plain(" °F")),
    ("kelvin", Plain(" K")),
    ("hertz", Si("Hz", 0)),
    ("ns", Time(NANOSECONDS)),
    ("µs", Time(MICROSECONDS)),
    ("ms", Time(MILLISECONDS)),
    ("s", Time(SECONDS)),
    ("m", Time(MINUTES)),
    ("h", Time(HOURS)),
    ("d", Time(DAYS)),
    ("timeticks", Time(TIMETICKS)),
    ("cps", Count("c/s")),
    ("ops", Count("ops/s")),
    ("reqps", Count("req/s")),
    ("rps", Count("rd/s")),
    ("wps", Count("wr/s")),
    ("iops", Count("io/s")),
    ("eps", Count("evt/s")),
    ("mps", Count("msg/s")),
    ("recps", Count("rec/s")),
    ("rowsps", Count("rows/s")),
    ("cpm", Count("c/m")),
    ("opm", Count("ops/m")),
    ("reqpm", Count("req/m")),
    ("rpm", Count("rd/m")),
    ("wpm", Count("wr/m")),
    ("epm", Count("evts/m")),
    ("mpm", Count("msgs/m")),
    ("recpm", Count("rec/m")),
    ("rowspm", Count("rows/m")),
    ("velocityms", Plain(" m/s")),
    ("velocitykmh", Plain(" km/h")),
    ("velocitymph", Plain(" mph")),
    ("velocityknot", Plain(" kn")),
    ("mlitre", Si("L", -1)),
    ("litre", Si("L", 0)),
    ("m3", Plain(" m³")),
    ("Nm3", Plain(" Nm³")),
    ("dm3", Plain(" dm³")),
    ("gallons", Plain(" gal")),
];

const SI_PREFIXES: [&str; 14] = ["f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E", "Z", "Y"];
const SI_BASE: i32 = 5;
const IEC_PREFIXES: [&str; 9] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const SHORT_SUFFIXES: [&str; 9] = ["", " K", " Mil", " Bil", " Tri", " Quadr", " Quint", " Sext", " Sept"];
const COUNT_SUFFIXES: [&str; 5] = ["", "K", "M", "B", "T"];

pub(super) fn find(id: &str) -> Unit {
    if id == "short" {
        return Unit::Ladder(scaled(1000.0, SHORT_SUFFIXES.iter().map(|s| (*s).to_owned())));
    }
    if let Some((_, def)) = TABLE.iter().find(|(name, _)| *name == id) {
        return Unit::Ladder(build(def));
    }
    if let Some(special) = Special::find(id) {
        return Unit::Special(special);
    }
    match id.split_once(':') {
        Some(("suffix", text)) => Unit::Ladder(plain(&format!(" {text}"))),
        Some(("prefix", text)) => Unit::Ladder(Ladder { prefix: text.to_owned(), ..plain("") }),
        Some(("currency", text)) => Unit::Ladder(money(text, "")),
        Some(("count", text)) => Unit::Ladder(count(text)),
        Some(("si", text)) => Unit::Ladder(custom_si(text)),
        Some(("time", format)) => Unit::Special(Special::Moment(format.to_owned())),
        _ => Unit::Ladder(plain(&format!(" {id}"))),
    }
}

fn build(def: &Def) -> Ladder {
    match *def {
        Plain(suffix) => plain(suffix),
        Times(factor, suffix) => {
            let mut ladder = plain(suffix);
            ladder.rungs[0].scale = 1.0 / factor;
            ladder
        }
        Si(unit, offset) => si(unit, offset),
        Iec(unit, offset) => iec(unit, offset),
        Count(noun) => count(noun),
        Money(symbol) => money(symbol, ""),
        MoneyAfter(symbol) => money("", symbol),
        Time(rungs) => time(rungs),
    }
}

fn of_rungs(rungs: Vec<Rung>) -> Ladder {
    Ladder { prefix: String::new(), sign_first: false, rungs, zero: 0, bare_zero: false, binary: false }
}

fn rung(from: f64, scale: f64, suffix: String) -> Rung {
    Rung { from, scale, many: suffix.clone(), one: suffix }
}

fn plain(suffix: &str) -> Ladder {
    of_rungs(vec![rung(0.0, 1.0, suffix.to_owned())])
}

fn scaled(factor: f64, suffixes: impl Iterator<Item = String>) -> Ladder {
    let mut scale = 1.0;
    let mut rungs = Vec::new();
    for (i, suffix) in suffixes.enumerate() {
        rungs.push(rung(if i == 0 { 0.0 } else { scale }, scale, suffix));
        scale *= factor;
    }
    of_rungs(rungs)
}

fn count(noun: &str) -> Ladder {
    let tail = if noun.is_empty() { String::new() } else { format!(" {noun}") };
    scaled(1000.0, COUNT_SUFFIXES.iter().map(|s| format!("{s}{tail}")))
}

fn money(before: &str, after: &str) -> Ladder {
    let mut ladder = scaled(1000.0, COUNT_SUFFIXES.iter().map(|s| format!("{s}{after}")));
    ladder.prefix = before.to_owned();
    ladder.sign_first = true;
    ladder
}

fn si(unit: &str, offset: i32) -> Ladder {
    let mut rungs = Vec::new();
    let mut zero = 0;
    for (i, prefix) in SI_PREFIXES.iter().enumerate() {
        let power = i as i32 - SI_BASE - offset;
        if power == 0 {
            zero = i;
        }
        let scale = 1000f64.powi(power);
        rungs.push(rung(if i == 0 { 0.0 } else { scale }, scale, format!(" {prefix}{unit}")));
    }
    Ladder { zero, ..of_rungs(rungs) }
}

/// `si:mV`: a prefix letter and a unit of more than one letter, or a bare unit.
fn custom_si(text: &str) -> Ladder {
    let mut chars = text.chars();
    let first = chars.next().map(String::from).unwrap_or_default();
    let rest = chars.as_str();
    match SI_PREFIXES.iter().position(|p| *p == first) {
        Some(i) if !rest.is_empty() && !first.is_empty() => si(rest, i as i32 - SI_BASE),
        _ => si(text, 0),
    }
}

fn iec(unit: &str, offset: i32) -> Ladder {
    let mut rungs = Vec::new();
    for (i, prefix) in IEC_PREFIXES.iter().enumerate() {
        let scale = 1024f64.powi(i as i32 - offset);
        rungs.push(rung(if i == 0 { 0.0 } else { scale }, scale, format!(" {prefix}{unit}")));
    }
    let zero = usize::try_from(offset).unwrap_or(0);
    Ladder { zero, binary: true, ..of_rungs(rungs) }
}

fn time(units: &[(f64, f64, &str)]) -> Ladder {
    let rungs: Vec<Rung> = units
        .iter()
        .enumerate()
        .map(|(i, &(from, scale, name))| {
            // A unit that counts in itself has no plural there (`3 min`, but `3 hours`), days apart.
            let many = if (i > 0 || name == "day") && name.len() >= 3 && name != "µs" {
                format!(" {name}s")
            } else {
                format!(" {name}")
            };
            Rung { from, scale, one: format!(" {name}"), many }
        })
        .collect();
    let seconds = units.iter().position(|u| u.2 == "s").unwrap_or(0);
    let (zero, bare_zero) = if units[0].1 < 1.0 { (seconds, true) } else { (0, false) };
    Ladder { zero, bare_zero, ..of_rungs(rungs) }
}
