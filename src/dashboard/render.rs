//! Pictures of panels and dashboards: the HTML that the pages hold, laid out as one SVG of a fixed size, and its PNG.
//!
//! There is one way from a panel to its drawing, which ends in HTML with fluid SVG. What a browser does with that, as
//! far as our own style makes use of it, `layout` does here: a dozen kinds of boxes, all known by their class. So a
//! picture never needs a browser, and every panel that can be shown can be sent.

mod dom;
mod flow;
mod layout;
mod page;
mod svg;
mod table;
mod text;

use crate::dashboard::color::Theme;

pub(crate) use page::{PagePanel, PageSection, page, panel};

/// Least and greatest width and height of a picture, CSS pixels.
pub(crate) const SIDE_PX: (f64, f64) = (20.0, 10_000.0);
/// Pixels of a picture at its scale: as much as 128 MiB of memory while it is drawn.
pub(crate) const PIXELS_MAX: f64 = 32e6;
/// Least and greatest scale.
pub(crate) const SCALE: (f64, f64) = (0.25, 4.0);

/// The colours of a theme that are no panel's own.
pub(crate) struct Palette {
    pub(crate) back: &'static str,
    pub(crate) panel: &'static str,
    pub(crate) line: &'static str,
    pub(crate) grid: &'static str,
    pub(crate) text: &'static str,
    pub(crate) dim: &'static str,
    pub(crate) link: &'static str,
    pub(crate) bad: &'static str,
    pub(crate) bad_back: &'static str,
    pub(crate) track: &'static str,
}

impl Palette {
    /// As `style.css` has them.
    pub(crate) fn of(theme: Theme) -> &'static Self {
        match theme {
            Theme::Dark => &Self {
                back: "#111217",
                panel: "#181b1f",
                line: "#2c2f36",
                grid: "#292c32",
                text: "#ccccdc",
                dim: "#9b9da8",
                link: "#6e9fff",
                bad: "#f2495c",
                bad_back: "#3a2229",
                track: "#2c2f36",
            },
            Theme::Light => &Self {
                back: "#f4f5f5",
                panel: "#ffffff",
                line: "#dfe1e5",
                grid: "#ebecec",
                text: "#24292e",
                dim: "#6a6f76",
                link: "#1f62e0",
                bad: "#d10e37",
                bad_back: "#fbecef",
                track: "#e4e7eb",
            },
        }
    }
}

/// A rectangle, CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) w: f64,
    pub(crate) h: f64,
}

impl Area {
    fn inset(self, left: f64, top: f64, right: f64, bottom: f64) -> Self {
        Self {
            x: self.x + left,
            y: self.y + top,
            w: (self.w - left - right).max(0.0),
            h: (self.h - top - bottom).max(0.0),
        }
    }
}

/// Why a picture cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PictureError {
    #[error(
        "{width}x{height} at scale {scale} is more than the {} million pixels that a picture may have; \
         ask for a smaller scale, width or height, for one panel (viewPanel=ID), or for format=svg",
        PIXELS_MAX / 1e6
    )]
    TooLarge { width: String, height: String, scale: String },
    #[cfg(feature = "png")]
    #[error("the picture could not be drawn: {0}")]
    Draw(String),
    #[cfg(not(feature = "png"))]
    #[error("this build draws no PNG (feature `png`); ask for format=svg")]
    NotBuilt,
}

/// Refuses a picture of too many pixels.
///
/// # Errors
/// [`PictureError::TooLarge`].
fn check_size(width: f64, height: f64, scale: f64) -> Result<(), PictureError> {
    if width * height * scale * scale <= PIXELS_MAX {
        return Ok(());
    }
    let text = crate::dashboard::scene::short;
    Err(PictureError::TooLarge { width: text(width), height: text(height), scale: text(scale) })
}

/// How large a picture is beside its SVG.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    Exactly(f64),
    /// 1, or as much as the limit of pixels leaves.
    Fitting,
}

impl Scale {
    /// The factor for an SVG of this size.
    ///
    /// # Errors
    /// [`PictureError::TooLarge`], also where what fits could not be read.
    pub(crate) fn of(self, width: f64, height: f64) -> Result<f64, PictureError> {
        let scale = match self {
            Self::Exactly(scale) => scale,
            Self::Fitting => {
                let fitting = (PIXELS_MAX / (width * height).max(1.0)).sqrt().min(1.0);
                ((fitting * 100.0).floor() / 100.0).max(SCALE.0)
            }
        };
        check_size(width, height, scale).map(|()| scale)
    }
}

/// The bytes of a PNG of `svg`, which is one of ours.
///
/// # Errors
/// [`PictureError`].
#[cfg(feature = "png")]
pub(crate) fn png(svg: &str, scale: Scale) -> Result<Vec<u8>, PictureError> {
    use std::sync::{Arc, LazyLock};

    use resvg::{tiny_skia, usvg};

    /// Read once: the only font there is.
    static FONTS: LazyLock<Arc<usvg::fontdb::Database>> = LazyLock::new(|| {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_data(include_bytes!("render/font.ttf").to_vec());
        fonts.set_sans_serif_family(text::FAMILY);
        Arc::new(fonts)
    });
    let options =
        usvg::Options { font_family: text::FAMILY.to_owned(), fontdb: FONTS.clone(), ..usvg::Options::default() };
    let fail = |e: &dyn std::fmt::Display| PictureError::Draw(e.to_string());
    let tree = usvg::Tree::from_str(svg, &options).map_err(|e| fail(&e))?;
    let (width, height) = (f64::from(tree.size().width()), f64::from(tree.size().height()));
    let scale = scale.of(width, height)?;
    let side = |v: f64| (v * scale).round().max(1.0) as u32;
    let mut pixels =
        tiny_skia::Pixmap::new(side(width), side(height)).ok_or_else(|| fail(&"no room for its pixels"))?;
    let transform = tiny_skia::Transform::from_scale(scale as f32, scale as f32);
    resvg::render(&tree, transform, &mut pixels.as_mut());
    encode(&pixels).map_err(|e| fail(&e))
}

/// The file of `pixels`. Every picture has an opaque background, so its alpha is left out. Lines of one colour are
/// most of it: what a line changes against the one above deflates well enough at once.
#[cfg(feature = "png")]
fn encode(pixels: &resvg::tiny_skia::Pixmap) -> Result<Vec<u8>, png::EncodingError> {
    let colors: Vec<u8> = pixels.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, pixels.width(), pixels.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_filter(png::Filter::Up);
    encoder.set_deflate_compression(png::DeflateCompression::Level(1));
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&colors)?;
    writer.finish()?;
    Ok(out)
}

/// See the other.
#[cfg(not(feature = "png"))]
pub(crate) fn png(_: &str, _: Scale) -> Result<Vec<u8>, PictureError> {
    Err(PictureError::NotBuilt)
}

#[cfg(test)]
mod tests;
