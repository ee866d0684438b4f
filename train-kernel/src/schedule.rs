//! The learning rate as a pure function of the step: linear warm-up, then half a cosine down to a floor.
//!
//! It keeps no state, so a resumed run cannot drift from an uninterrupted one.

use std::f64::consts::PI;

/// Linear warm-up over `warmup_steps`, then half a cosine to `floor` at `total_steps`.
///
/// Steps count from 0. The first step has peak/W, not 0 as in Hugging Face's trainer; compare curves with an
/// offset of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Highest learning rate.
    pub peak: f64,
    /// Learning rate at and after the last step.
    pub floor: f64,
    /// Steps of the warm-up, W.
    pub warmup_steps: u64,
    /// Steps of the run, N.
    pub total_steps: u64,
}

impl Schedule {
    /// A schedule whose warm-up is `warmup_ratio` of the steps, rounded up as Hugging Face's trainer does.
    pub fn new(peak: f64, floor: f64, warmup_ratio: f64, total_steps: u64) -> Self {
        // 1e-9 takes back products such as 0.07 · 100 = 7.000000000000001.
        let warmup = (warmup_ratio * total_steps as f64 - 1e-9).ceil().max(0.0);
        Self { peak, floor, warmup_steps: (warmup as u64).min(total_steps), total_steps }
    }

    /// Learning rate of `step`, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        if step >= self.total_steps {
            return self.floor;
        }
        let progress = (step - self.warmup_steps) as f64 / (self.total_steps - self.warmup_steps) as f64;
        self.floor + (self.peak - self.floor) * 0.5 * (1.0 + (PI * progress).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn published_run_has_1538_steps_of_warmup() {
        // 129e9 tokens in steps of 1,024 x 4,096 at a ratio of 0.05: reference me-llama.md, section 3.
        let schedule = Schedule::new(8e-6, 0.0, 0.05, 30_756);
        assert_eq!(schedule.warmup_steps, 1_538);
    }

    #[test]
    fn values_on_the_curve() {
        let check = |step: u64, expected: f64| {
            let got = Schedule::new(1.0, 0.1, 0.1, 100).learning_rate(step);
            assert!((got - expected).abs() < 1e-12, "step {step}: {got}, expected {expected}");
        };
        check(0, 0.1);
        check(4, 0.5);
        check(9, 1.0);
        check(10, 1.0);
        check(55, 0.55); // half way between peak and floor
        check(40, 0.1 + 0.9 * 0.75); // cos(π/3) = 1/2
        check(100, 0.1);
        check(u64::MAX, 0.1);
    }

    #[test]
    fn ratios_that_are_whole_numbers_of_steps_are_not_rounded_up() {
        for (ratio, steps, expected) in [(0.07, 100, 7), (0.01, 300, 3), (0.0, 10, 0), (1.0, 10, 10), (0.05, 1, 1), (0.05, 0, 0)]
        {
            assert_eq!(Schedule::new(1.0, 0.0, ratio, steps).warmup_steps, expected, "{ratio} of {steps}");
        }
    }

    #[test]
    fn never_rises_after_the_warmup() {
        let schedule = Schedule::new(3e-4, 3e-5, 0.05, 1_000);
        let rates: Vec<f64> = (schedule.warmup_steps..1_001).map(|step| schedule.learning_rate(step)).collect();
        assert!(rates.windows(2).all(|pair| pair[1] <= pair[0]));
    }
}
