//! Flags of `promontory render`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `promontory render …`.
#[derive(Debug, Subcommand)]
pub enum RenderCommand {
    /// Draw a whole dashboard
    Dashboard {
        /// Uid of the dashboard, as in its address
        uid: String,
        /// How and from where
        #[command(flatten)]
        args: RenderArgs,
    },
    /// Draw one panel
    Panel {
        /// Uid of the dashboard, as in its address
        uid: String,
        /// Id of the panel, as in the address of its page (viewPanel)
        panel: String,
        /// How and from where
        #[command(flatten)]
        args: RenderArgs,
    },
}

/// What `render` draws and where it goes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  promontory render panel promontory-node 4 --from now-6h -o cpu.png
  promontory render dashboard promontory-vllm --theme light --scale 2 -o vllm.png
  promontory render dashboard promontory-self --format html -o self.html
  promontory render dashboard team --data /var/lib/promontory --dashboards.path dashboards -o team.svg")]
pub struct RenderArgs {
    /// File to write; standard output when left out
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What to write; else as the ending of the file says, else PNG
    #[arg(long, value_enum)]
    pub format: Option<RenderFormat>,
    /// Server to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090", conflicts_with = "data")]
    pub server: String,
    /// Data folder to draw from, without a server
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Folder with dashboards, beside a data folder
    #[arg(long = "dashboards.path", value_name = "FOLDER", requires = "data")]
    pub dashboards_path: Option<PathBuf>,
    /// Width, CSS pixels
    #[arg(long, value_name = "PX")]
    pub width: Option<f64>,
    /// Height, CSS pixels; a dashboard is as high as it needs to be
    #[arg(long, value_name = "PX")]
    pub height: Option<f64>,
    /// Pixels of the picture per CSS pixel, up to 4
    #[arg(long, value_name = "N")]
    pub scale: Option<f64>,
    /// Colours
    #[arg(long, value_enum, default_value_t = RenderTheme::Dark)]
    pub theme: RenderTheme,
    /// Begin of the time, as in the address of a page: now-6h, 2026-01-31 12:00:00
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// End of the time
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Time zone of texts; UTC when neither this nor the dashboard says another
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Value of a variable; may be given often
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = pair)]
    pub variables: Vec<(String, String)>,
}

impl RenderArgs {
    /// What is written.
    #[must_use]
    pub fn format(&self) -> RenderFormat {
        let ending = self.output.as_ref().and_then(|o| o.extension()).and_then(|e| e.to_str());
        self.format.unwrap_or(match ending {
            Some("svg") => RenderFormat::Svg,
            Some("html" | "htm") => RenderFormat::Html,
            _ => RenderFormat::Png,
        })
    }
}

/// Kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RenderFormat {
    /// A picture of pixels.
    Png,
    /// A drawing.
    Svg,
    /// A page with style, script and numbers inside.
    Html,
}

/// Colours of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RenderTheme {
    /// Light on dark.
    Dark,
    /// Dark on light.
    Light,
}

impl RenderTheme {
    /// As in an address.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dark => "dark",
            Self::Light => "light",
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, got {text:?}"))?;
    Ok((name.to_owned(), value.to_owned()))
}
