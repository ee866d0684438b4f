//! What each kernel may take of a card, committed beside the sources: registers bound how many blocks a multiprocessor holds, and
//! a change that takes more is to be seen. Compiles nothing.
//!
//! The file is text: a line with the compiler, then one a kernel, configuration and target with tabs between.

use std::collections::BTreeMap;

use super::version::{Target, Version};
use crate::gpu::kernels::Kernel;

const COLUMNS: &str = "kernel\tconfiguration\ttarget\tregisters\tshared bytes";
const COMPILER: &str = "# NVRTC ";

/// Which compilation of which kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kernel: String,
    configuration: String,
    target: String,
}

impl Key {
    fn words(&self) -> String {
        format!("{} of {} for {}", self.kernel, self.configuration, self.target)
    }
}

/// What a kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    registers: u32,
    shared_bytes: u32,
}

/// The needs of all kernels, as one compiler made them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    compiler: Version,
    needs: BTreeMap<Key, Need>,
}

impl Budget {
    /// Of no kernels yet.
    pub fn new(compiler: Version) -> Self {
        Self { compiler, needs: BTreeMap::new() }
    }

    /// The compiler that it was made with.
    pub fn compiler(&self) -> Version {
        self.compiler
    }

    /// Adds what a kernel was compiled to.
    ///
    /// # Panics
    /// When it is there: two configurations of a kernel have to differ in name.
    pub fn add(&mut self, kernel: &Kernel, target: Target, (registers, shared_bytes): (u32, u32)) {
        let (name, configuration) = (kernel.name.to_owned(), kernel.module.title());
        let key = Key { kernel: name, configuration, target: target.as_str().to_owned() };
        let words = key.words();
        let before = self.needs.insert(key, Need { registers, shared_bytes });
        assert!(before.is_none(), "{words}: is in the budget already");
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate();
        let mut next = |what: &str| lines.next().ok_or(format!("ends before {what}"));
        let (_, first) = next("the compiler")?;
        let compiler = first.strip_prefix(COMPILER).and_then(|version| version.parse().ok());
        let compiler = compiler.ok_or_else(|| format!("line 1: got \"{first}\", expected \"{COMPILER}VERSION\""))?;
        let (_, columns) = next("the columns")?;
        if columns != COLUMNS {
            return Err(format!("line 2: got \"{columns}\", expected \"{COLUMNS}\""));
        }
        let mut needs = BTreeMap::new();
        for (index, line) in lines {
            let wrong = || format!("line {}: got \"{line}\", expected {}", index + 1, COLUMNS.replace('\t', ", "));
            let fields: Vec<&str> = line.split('\t').collect();
            let [kernel, configuration, target, registers, shared_bytes] = fields[..] else { return Err(wrong()) };
            let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
            let need = Need { registers: number(registers)?, shared_bytes: number(shared_bytes)? };
            let [kernel, configuration, target] = [kernel, configuration, target].map(str::to_owned);
            if needs.insert(Key { kernel, configuration, target }, need).is_some() {
                return Err(format!("line {}: a second line of this kernel", index + 1));
            }
        }
        Ok(Self { compiler, needs })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let line = |(key, need): (&Key, &Need)| {
            let Key { kernel, configuration, target } = key;
            format!("{kernel}\t{configuration}\t{target}\t{}\t{}\n", need.registers, need.shared_bytes)
        };
        let lines: String = self.needs.iter().map(line).collect();
        format!("{COMPILER}{}\n{COLUMNS}\n{lines}", self.compiler)
    }

    /// What of these kernels is not as the budget allows, a line each: more than it says, or kernels that only one of both knows.
    pub fn complaints(&self, found: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, need) in &found.needs {
            let Some(allowed) = self.needs.get(key) else {
                lines.push(format!("{}: is not in the budget", key.words()));
                continue;
            };
            let pairs = [
                ("registers", need.registers, allowed.registers),
                ("bytes of shared memory", need.shared_bytes, allowed.shared_bytes),
            ];
            for (what, got, most) in pairs.into_iter().filter(|(_, got, most)| got > most) {
                lines.push(format!("{}: {got} {what}, the budget allows {most}", key.words()));
            }
        }
        let gone = self.needs.keys().filter(|key| !found.needs.contains_key(key));
        lines.extend(gone.map(|key| format!("{}: is in the budget, and there is no such kernel", key.words())));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, COLUMNS};
    use crate::gpu::cuda::{LEVEL, Target};
    use crate::gpu::kernels;

    fn budget(registers: u32, shared_bytes: u32) -> Budget {
        let mut budget = Budget::new(LEVEL);
        budget.add(&kernels::NARROW, Target::Sm80, (registers, shared_bytes));
        budget.add(&kernels::NARROW, Target::Sm90a, (registers, 0));
        budget
    }

    #[test]
    fn budgets_are_written_and_read() {
        let text = budget(30, 1024).to_text();
        assert!(text.starts_with(&format!("# NVRTC {LEVEL}\n{COLUMNS}\n")) && text.lines().count() == 4, "{text}");
        assert_eq!(Budget::parse(&text).unwrap(), budget(30, 1024));
        let check = |text: String, expected: &str| {
            let error = Budget::parse(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(String::new(), "ends before the compiler");
        check(format!("# NVRTC {LEVEL}\n"), "ends before the columns");
        check(text.replace("NVRTC", "nvcc"), "line 1: got \"# nvcc");
        check(text.replace("registers", "register"), "line 2: got");
        check(text.replace("\t1024", "\tmany"), "line 3: got \"narrow");
        check(text.replace("\t1024", ""), "line 3: got");
        check(format!("{text}{}\n", text.lines().last().unwrap()), "line 5: a second line");
    }

    #[test]
    fn what_is_over_budget_is_told() {
        let check = |allowed: &Budget, found: &Budget, expected: &[&str]| {
            let lines = allowed.complaints(found);
            let same = lines.len() == expected.len() && lines.iter().zip(expected).all(|(line, part)| line.contains(part));
            assert!(same, "{lines:?}");
        };
        check(&budget(30, 1024), &budget(30, 1024), &[]);
        check(&budget(30, 1024), &budget(29, 1000), &[]);
        let more = ["for sm_80: 31 registers, the budget allows 30", "for sm_80: 1025 bytes", "for sm_90a: 31 registers"];
        check(&budget(30, 1024), &budget(31, 1025), &more);
        check(&Budget::new(LEVEL), &budget(1, 1), &["is not in the budget", "is not in the budget"]);
        check(&budget(1, 1), &Budget::new(LEVEL), &["no such kernel", "no such kernel"]);
    }
}
