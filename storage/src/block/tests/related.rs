//! Columns that others of their page say most of: shares of a whole, sums, twins.

use super::*;

const NAMES: [&str; 9] = ["alloc", "cached", "free", "idle", "other", "pages", "shmem", "total", "user"];

/// Rows of columns that follow from each other, beside some that do not, from a seed; those that `keeps` leaves.
pub(crate) fn related_group(start: i64, rows: usize, seed: u64, keeps: impl Fn(usize) -> bool) -> Group {
    let mut state = seed;
    let mut below = |n: u64| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) % n
    };
    let (mut cached, mut shmem, mut user) = (1e9, 2e8, 0.0);
    let mut columns = vec![Vec::new(); NAMES.len()];
    for row in 0..rows {
        cached += below(900) as f64 * 4096.0 - 1.8e6;
        shmem += below(300) as f64 * 4096.0 - 6e5;
        user += below(700) as f64;
        let other = below(1 << 20) as f64 / 1024.0;
        let free = 9e9 - cached - shmem;
        let idle = ((row + 1) as f64 * 1500.0 - user + below(9) as f64) / 100.0;
        let values = [cached, cached, free, idle, other, below(5000) as f64, shmem, cached + shmem, user / 100.0];
        columns.iter_mut().zip(values).for_each(|(column, v)| column.push(Some(v)));
    }
    let labels = |name: &&str| Labels::from_pairs([("__name__", *name), ("job", "node")]);
    let columns = NAMES.iter().map(labels).zip(columns).enumerate().filter(|(i, _)| keeps(*i)).map(|(_, c)| c);
    Group { timestamps: (0..rows as i64).map(|i| start + i * 15_000).collect(), columns: columns.collect() }
}

/// Columns that are told from others, in the order of their names, over all spans.
fn predicted(block: &BlockReader) -> Vec<&'static str> {
    let block = block.inner();
    let entry = block.group(0).unwrap();
    let mut out = Vec::new();
    for span in 0..entry.spans.len() {
        let mut reader = block.span(&entry, span);
        let is_predicted = |column: &usize| reader.mini_block(*column).unwrap().unwrap().1.prediction().is_some();
        out.extend((0..entry.n_columns).filter(is_predicted).map(|column| NAMES[column]));
    }
    out
}

#[test]
fn columns_that_others_tell_take_little_and_come_back() {
    for (rows, seed) in [(480, 1), (2100, 2)] {
        let vfs = vfs();
        let group = related_group(0, rows, seed, |_| true);
        let mut model = Model::new();
        group.add_to(&mut model);
        let meta = write_block(&vfs, Ulid::new(1, 1), &[group]);
        let block = BlockReader::open(&*vfs, &path(Ulid::new(1, 1))).unwrap();
        let told = predicted(&block);
        assert!(told.starts_with(&["cached", "shmem", "total", "user"]), "{told:?}");
        assert!(read_all(&*block, &[], TimeRange::ALL).unwrap() == model);
        for name in NAMES {
            let matchers = [Matcher::equal("__name__", name)];
            for range in [TimeRange::ALL, TimeRange::new(1_000_000, 2_000_000)] {
                let found = read_all(&*block, &matchers, range).unwrap();
                assert!(found == naive(&model, &matchers, range), "{name}");
            }
        }
        let alone: u64 = (0..NAMES.len())
            .map(|i| {
                let one = related_group(0, rows, seed, |column| column == i);
                write_block(&vfs, Ulid::new(2, i as u64 as u128), &[one]).data_bytes
            })
            .sum();
        assert!(meta.data_bytes * 3 < alone * 2, "{} bytes, alone {alone}", meta.data_bytes);
        verify(&*vfs, &path(Ulid::new(1, 1))).unwrap();
    }
}

#[test]
fn references_out_of_the_page_are_refused() {
    let sim = SimVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
    vfs.create_dir_all(&dir()).unwrap();
    let ulid = Ulid::new(1, 1);
    write_block(&vfs, ulid, &[related_group(0, 480, 1, |i| [0, 1, 2, 6].contains(&i))]);
    let block = BlockReader::open(&sim, &path(ulid)).unwrap();
    let entry = block.inner().group(0).unwrap();
    let (base, mini) = block.inner().span(&entry, 0).mini_block(3).unwrap().unwrap();
    assert!(mini.prediction().is_some(), "what is shared is told from the first and what is free");
    sim.corrupt(&path(ulid).join("data"), |bytes| {
        bytes[base + 2] = 4;
        section::mend(bytes);
    });
    let block = BlockReader::open(&sim, &path(ulid)).unwrap();
    let e = read_all(&*block, &[], TimeRange::ALL).unwrap_err().to_string();
    assert!(e.contains("mini-block that another needs"), "{e}");
}
