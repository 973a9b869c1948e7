//! The bars of the design that queries are judged by.

use crate::query::Timing;
use crate::server::System;

/// What a query may take.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// Median time without caches, ms.
    ColdMs(f64),
    /// The same, as a part of what VictoriaMetrics takes.
    OfVictoriaMetrics(f64),
    /// By how much resident memory may rise, MiB.
    PeakMib(f64),
}

/// A bar, what was measured, and whether the bar is met.
pub(crate) struct Verdict {
    pub(crate) bar: String,
    pub(crate) measured: String,
    pub(crate) is_met: bool,
}

impl Bar {
    /// Judges our timing of a query; `None` when what it takes was not measured.
    pub(crate) fn judge(self, timings: &[(System, Timing)]) -> Option<Verdict> {
        let of = |system| timings.iter().find(|(s, _)| *s == system).map(|(_, timing)| timing);
        let ours = of(System::Promontory)?;
        Some(match self {
            Self::ColdMs(most) => Verdict {
                bar: format!("≤ {most} ms without caches"),
                measured: format!("{:.1} ms, {:.1} ms of processor time", ours.cold_ms, ours.cpu_ms),
                is_met: ours.cold_ms <= most,
            },
            Self::OfVictoriaMetrics(most) => {
                let part = ours.cold_ms / of(System::VictoriaMetrics)?.cold_ms;
                Verdict {
                    bar: format!("≤ {most} × VictoriaMetrics without caches"),
                    measured: format!("{part:.3}, {:.0} ms", ours.cold_ms),
                    is_met: part <= most,
                }
            }
            Self::PeakMib(most) => Verdict {
                bar: format!("memory rises by ≤ {most} MiB"),
                measured: format!("{:.0} MiB", ours.risen_mib),
                is_met: ours.risen_mib <= most,
            },
        })
    }
}
