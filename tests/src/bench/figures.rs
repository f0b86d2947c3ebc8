//! From samples to a table: medians, spreads, ratios between contenders of the same round.

use std::time::Duration;

/// What a contender reached in each round.
pub struct Row {
    pub name: &'static str,
    pub samples: Vec<f64>,
    /// More columns, already written.
    pub more: Vec<String>,
}

/// How long something took, again and again.
#[derive(Clone, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The smallest that this share of them does not exceed.
    fn quantile(&self, share: f64) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied()
    }
}

/// A plain table in milliseconds: of each of `what`, half, 99 of a hundred, and the longest.
pub fn times_table(what: &[&str], rows: &[(String, Vec<Times>)]) -> String {
    let mut lines = vec![vec![String::new(), "runs".to_owned()]];
    for what in what {
        lines[0].extend([format!("{what}, ms: p50"), "p99".to_owned(), "max".to_owned()]);
    }
    for (name, times) in rows {
        let runs = times.first().map_or(0, |times| times.0.len());
        let mut line = vec![name.clone(), runs.to_string()];
        for times in times {
            let cells = [0.5, 0.99, 1.0].map(|share| times.quantile(share));
            line.extend(cells.map(|time| time.map_or_else(String::new, |time| time.as_millis().to_string())));
        }
        lines.push(line);
    }
    align(&lines)
}

pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The median of the rounds' own ratios: what disturbed a whole round disturbs it little.
pub fn ratio(samples: &[f64], base: &[f64]) -> f64 {
    let ratios: Vec<f64> = samples.iter().zip(base).map(|(sample, base)| sample / base).collect();
    median(&ratios)
}

/// A plain table: median and spread in `unit`, ratios to the rows called `bases`, then what the rows bring.
pub fn table(rows: &[Row], unit: (&str, f64), bases: &[&str], more: &[&str]) -> String {
    let (unit, scale) = unit;
    let bases: Vec<&Row> = bases
        .iter()
        .filter_map(|base| rows.iter().find(|row| row.name == *base))
        .collect();
    let mut head = vec![String::new(), unit.to_owned(), "min–max".to_owned()];
    head.extend(bases.iter().map(|base| format!("of {}", base.name)));
    head.extend(more.iter().map(|&name| name.to_owned()));
    let mut lines = vec![head];
    for row in rows {
        let scaled = row.samples.iter().map(|sample| sample / scale);
        let (low, high) = scaled.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
        let mut line = vec![row.name.to_owned(), number(median(&row.samples) / scale)];
        line.push(format!("{}–{}", number(low), number(high)));
        line.extend(
            bases
                .iter()
                .map(|base| format!("{:.2}", ratio(&row.samples, &base.samples))),
        );
        line.extend(row.more.iter().cloned());
        lines.push(line);
    }
    align(&lines)
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn align(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let width = width(column).unwrap_or(0);
            match column {
                0 => text += &format!("  {cell:<width$}"),
                _ => text += &format!("   {cell:>width$}"),
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_of_what_was_measured() {
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
    }

    #[test]
    fn a_share_of_the_times_does_not_exceed_its_quantile() {
        let mut times = Times::default();
        assert_eq!(times.quantile(0.5), None);
        (1..=200).rev().for_each(|n| times.add(Duration::from_millis(n)));
        let of = |share| times.quantile(share).unwrap().as_millis();
        assert_eq!((of(0.0), of(0.5), of(0.99), of(1.0)), (1, 100, 198, 200));
    }

    #[test]
    fn a_ratio_compares_within_rounds() {
        // The machine slowed to a tenth in the second round: the ratio stays.
        assert_eq!(ratio(&[50.0, 5.0, 50.0], &[100.0, 10.0, 100.0]), 0.5);
    }

    #[test]
    fn a_table_has_a_line_for_each_contender_and_a_column_for_each_base() {
        let row = |name, sample| Row {
            name,
            samples: vec![sample; 3],
            more: vec!["0 %".to_owned()],
        };
        let text = table(
            &[row("fast", 2e6), row("slow", 5e5)],
            ("Mpps", 1e6),
            &["fast"],
            &["loss"],
        );
        let slow = text.lines().find(|line| line.contains("slow")).unwrap();
        let cells: Vec<_> = slow.split_whitespace().collect();
        assert_eq!(cells, ["slow", "0.50", "0.50–0.50", "0.25", "0", "%"]);
        assert_eq!(text.lines().count(), 3);
    }
}
