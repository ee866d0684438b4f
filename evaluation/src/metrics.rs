//! Means with standard errors, confusion, and F1 as scikit-learn defines them. Numbers in, numbers out.

use serde::{Deserialize, Serialize};

/// A mean over items and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// Sample standard deviation (n − 1) over √n; absent for fewer than two items.
    pub standard_error: Option<f64>,
}

/// Counts by gold class (row) and predicted class (column).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Confusion {
    /// `counts[gold][predicted]`.
    pub counts: Vec<Vec<u64>>,
}

/// One class of a confusion.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Index of the choice.
    pub class: usize,
    /// Items whose gold it is.
    pub support: u64,
    /// Items that it was predicted for.
    pub predicted: u64,
    /// Right among predicted; 0 when never predicted.
    pub precision: f64,
    /// Right among gold; 0 without gold.
    pub recall: f64,
    /// Harmonic mean of both; 0 when both are.
    pub f1: f64,
}

/// Mean and standard error of the mean.
pub fn mean_and_error(values: &[f64]) -> Mean {
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - value) * (x - value)).sum();
    let standard_error = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt() / n.sqrt());
    Mean { value, standard_error }
}

impl Confusion {
    /// Counts pairs of (gold, predicted), each below `classes`.
    pub fn of(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (gold, predicted) in pairs {
            counts[gold][predicted] += 1;
        }
        Self { counts }
    }

    /// Precision, recall and F1 of every class.
    pub fn classes(&self) -> Vec<ClassScore> {
        let share = |part: u64, whole: u64| {
            if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
        };
        let score = |class: usize| {
            let right = self.counts[class][class];
            let support: u64 = self.counts[class].iter().sum();
            let predicted: u64 = self.counts.iter().map(|row| row[class]).sum();
            let f1 = share(2 * right, support + predicted);
            let (precision, recall) = (share(right, predicted), share(right, support));
            ClassScore { class, support, predicted, precision, recall, f1 }
        };
        (0..self.counts.len()).map(score).collect()
    }
}

/// Mean F1 over the classes that are the gold of some item; 0 when there are none.
pub fn macro_f1(classes: &[ClassScore]) -> f64 {
    let present: Vec<f64> = classes.iter().filter(|class| class.support > 0).map(|class| class.f1).collect();
    if present.is_empty() { 0.0 } else { present.iter().sum::<f64>() / present.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::{Confusion, macro_f1, mean_and_error};

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-15, "{got}, expected {expected}");
    }

    #[test]
    fn golden_standard_error() {
        // lm-evaluation-harness 0.4.13 on [0, 1, 1, 0, 1].
        let mean = mean_and_error(&[0.0, 1.0, 1.0, 0.0, 1.0]);
        close(mean.value, 0.6);
        close(mean.standard_error.unwrap(), 0.244_948_974_278_317_83);
        assert_eq!(mean_and_error(&[1.0]).standard_error, None);
        close(mean_and_error(&[1.0, 1.0]).standard_error.unwrap(), 0.0);
    }

    #[test]
    fn f1_by_class_and_its_mean() {
        // Gold 0 0 0 1 1 2, predicted 0 0 1 1 2 2: hits 2, 1, 1; F1 4/5, 2/4, 2/3.
        let pairs = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (2, 2)];
        let confusion = Confusion::of(3, pairs);
        assert_eq!(confusion.counts, [[2, 1, 0], [0, 1, 1], [0, 0, 1]]);
        let classes = confusion.classes();
        for (class, expected) in classes.iter().zip([0.8, 0.5, 2.0 / 3.0]) {
            close(class.f1, expected);
        }
        close(classes[0].precision, 1.0);
        close(classes[0].recall, 2.0 / 3.0);
        close(macro_f1(&classes), (0.8 + 0.5 + 2.0 / 3.0) / 3.0);
    }

    #[test]
    fn classes_without_gold_are_no_row_of_the_mean() {
        // Class 2 is predicted once and never gold: it lowers the recall of class 1, and is not averaged.
        let classes = Confusion::of(3, [(0, 0), (1, 2)]).classes();
        close(macro_f1(&classes), 0.5);
        close(classes[2].f1, 0.0);
        close(macro_f1(&Confusion::of(2, []).classes()), 0.0);
    }
}
