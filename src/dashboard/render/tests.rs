//! Layout by small pieces; whole dashboards are drawn in the tests of the pages.

use super::*;
use crate::dashboard::color::Theme;
use crate::dashboard::model::Grid;

fn draw(body: &str, width: f64, height: f64) -> String {
    let one = PagePanel {
        title: "Title".to_owned(),
        note: String::new(),
        body: body.to_owned(),
        grid: Grid::default(),
        is_transparent: false,
    };
    panel(&one, (width, height), Palette::of(Theme::Dark))
}

#[track_caller]
fn check(body: &str, expected: &[&str]) {
    let svg = draw(body, 400.0, 200.0);
    assert!(roxmltree::Document::parse(&svg).is_ok(), "{svg}");
    for text in expected {
        assert!(svg.contains(text), "{text:?} is not in {svg}");
    }
}

#[test]
fn boxes_stand_where_the_page_has_them() {
    check(
        "<div class=\"empty\">No data</div>",
        &["x=\"200\" y=\"117\" font-size=\"14\"", "text-anchor=\"middle\">No data</text>"],
    );
    check(
        "<div class=\"query-error\"><b>A</b> parse &lt;error&gt;</div><div class=\"empty\">x</div>",
        &["fill=\"#3a2229\"", ">A parse &lt;error&gt;</text>"],
    );
    check(
        "<div class=\"stats c2\"><div class=\"stat\"><svg class=\"back\"><rect width=\"100%\" height=\"100%\" fill=\"red\"/></svg>\
         <div class=\"words\"><svg class=\"big\" viewBox=\"0 0 140 110\"><text x=\"50%\" y=\"90\" font-size=\"100\" fill=\"#fff\">7</text></svg></div></div>\
         <div class=\"stat\"></div></div>",
        &["<rect width=\"189\" height=\"160\" fill=\"red\" x=\"8\" y=\"32\">", ">7</text>"],
    );
    check(
        "<div class=\"graph below\"><div class=\"plot\"><svg class=\"yaxis left\" width=\"40\"><text x=\"34\" y=\"50%\" text-anchor=\"end\">5</text></svg>\
         <div class=\"canvas\"><svg class=\"marks\" viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\"><g data-s=\"0\"><path d=\"M0 0L1000 1000\" stroke=\"blue\" stroke-width=\"1\"/></g></svg></div></div>\
         <ul class=\"legend list bottom\"><li><button class=\"key\"><svg><rect fill=\"blue\"/></svg><span>name</span></button></li></ul></div>",
        &["x=\"48\" y=\"38\" width=\"344\"", "d=\"M0 0L344 110\"", "fill=\"blue\"/>", ">name</text>", ">5</text>"],
    );
    check(
        "<div class=\"table-wrap\"><table><thead><tr><th>a</th><th class=\"num\">b</th></tr></thead><tbody><tr><td bgcolor=\"red\">x</td><td class=\"num\">1</td></tr></tbody></table></div>",
        &["height=\"28\" fill=\"red\"", "text-anchor=\"end\">1</text>"],
    );
    check(
        "<div class=\"text\"><h1>Head</h1><p>some <a href=\"x\">link</a></p><ul><li>one</li></ul></div>",
        &["font-size=\"22\"", "fill=\"#6e9fff\">link", ">•</text>"],
    );
}

#[test]
fn pictures_have_limits() {
    assert!(check_size(4000.0, 4000.0, 1.0).is_ok());
    let e = check_size(4000.0, 4000.0, 2.0).unwrap_err();
    assert_eq!(
        e.to_string(),
        "4000x4000 at scale 2 is more than the 32 million pixels that a picture may have; ask for a smaller scale, width \
         or height, for one panel (viewPanel=ID), or for format=svg"
    );
    assert_eq!(Scale::Fitting.of(1440.0, 1000.0), Ok(1.0));
    assert_eq!(Scale::Fitting.of(1440.0, 40_000.0), Ok(0.74));
    assert!(Scale::Fitting.of(10_000.0, 1e6).is_err());
}

#[cfg(feature = "png")]
#[test]
fn a_picture_has_its_size_and_its_ink() {
    let svg = draw("<div class=\"empty\">No data</div>", 300.0, 120.0);
    let bytes = png(&svg, Scale::Exactly(2.0)).unwrap();
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    let side = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    assert_eq!((side(16), side(20)), (600, 240));
    let without = png(&draw("", 300.0, 120.0), Scale::Exactly(2.0)).unwrap();
    assert!(bytes.len() > without.len() + 200, "{} and {}", bytes.len(), without.len());
}
