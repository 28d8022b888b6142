//! Columns of text, and numbers as people read them.

/// Lines with the rows in columns, two spaces apart, the last one unpadded.
pub fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

/// Bytes with three digits or so: `255 MB`. Powers of ten, as disks and Docker count.
pub fn bytes(count: u64) -> String {
    let mut unit = "B";
    let mut scaled = count;
    let mut tenths = 0;
    for next in ["kB", "MB", "GB", "TB"] {
        if scaled < 1000 {
            break;
        }
        tenths = scaled % 1000 / 100;
        scaled /= 1000;
        unit = next;
    }
    if scaled < 10 && unit != "B" {
        format!("{scaled}.{tenths} {unit}")
    } else {
        format!("{scaled} {unit}")
    }
}

/// The first twelve digits of an image or container ID, as Docker shows them.
pub fn short(id: &str) -> String {
    id.strip_prefix("sha256:")
        .unwrap_or(id)
        .chars()
        .take(12)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_950, "9.9 kB"),
            (255_000_000, "255 MB"),
            (1_500_000_000, "1.5 GB"),
        ];
        for (count, text) in table {
            assert_eq!(bytes(count), text);
        }
    }
}
