//! Groups of series that were recorded somewhere, as text.
//!
//! Per group: a line `group NAME`; a line of timestamps in ms; a line per series: labels as name, 0x02, value, parted
//! by 0x01, then 0x03, then per timestamp the bits of the value in hexadecimal or `-`; an empty line.

use promontory_model::Labels;

pub struct Group {
    pub timestamps: Vec<i64>,
    pub columns: Vec<Column>,
}

pub struct Column {
    pub labels: Labels,
    /// One per timestamp.
    pub values: Vec<f64>,
    /// One bit per timestamp.
    pub presence: Vec<u64>,
}

impl Column {
    /// The values that are there.
    pub fn present(&self) -> Vec<f64> {
        let is_present = |row: usize| self.presence[row / 64] >> (row % 64) & 1 == 1;
        (0..self.values.len()).filter(|row| is_present(*row)).map(|row| self.values[row]).collect()
    }
}

pub fn read(text: &str) -> Vec<Group> {
    let mut out: Vec<Group> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        assert!(line.starts_with("group "), "a group starts here: {line}");
        let times = lines.next().expect("timestamps follow");
        let timestamps: Vec<i64> = times.split(' ').map(|t| t.parse().expect("milliseconds")).collect();
        let columns = lines.by_ref().take_while(|l| !l.is_empty()).map(|l| column(l, timestamps.len())).collect();
        out.push(Group { timestamps, columns });
    }
    out
}

fn column(line: &str, rows: usize) -> Column {
    let (labels, cells) = line.split_once('\u{3}').expect("labels end");
    let labels = Labels::from_pairs(labels.split('\u{1}').map(|l| l.split_once('\u{2}').expect("a pair")));
    let (mut values, mut presence) = (vec![0.0; rows], vec![0u64; rows.div_ceil(64)]);
    for (row, cell) in cells.split(' ').enumerate().filter(|(_, c)| *c != "-") {
        values[row] = f64::from_bits(u64::from_str_radix(cell, 16).expect("hexadecimal bits"));
        presence[row / 64] |= 1 << (row % 64);
    }
    Column { labels, values, presence }
}
