//! Versions of CUDA, and which of them work together. Nothing here asks a library.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// A version of CUDA: of a driver, of a compiler, of the libraries that this program is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Versions with the same first part work together, the newer programs on the older driver too.
    pub major: u32,
    /// The second part.
    pub minor: u32,
}

/// The CUDA whose libraries are asked for.
#[cfg(not(feature = "cuda-13000"))]
pub const LEVEL: Version = Version { major: 12, minor: 8 };
/// The CUDA whose libraries are asked for.
#[cfg(feature = "cuda-13000")]
pub const LEVEL: Version = Version { major: 13, minor: 0 };

impl Version {
    /// The oldest driver that runs what this program is built for: minor versions are compatible.
    pub const OLDEST_DRIVER: Self = Self { major: LEVEL.major, minor: 0 };

    /// From the number that drivers give: 12080 is 12.8.
    pub fn from_number(number: u32) -> Self {
        Self { major: number / 1000, minor: number % 1000 / 10 }
    }
}

impl Display for Version {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self { major: major.parse()?, minor: minor.parse()? })
    }
}

/// What kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A100 and the other cards of compute capability 8.
    Sm80,
    /// H100 and H200.
    Sm90a,
    /// Cards that came later: instructions that the driver translates when it loads them.
    Ptx80,
}

impl Target {
    /// The targets that are shipped.
    pub const SHIPPED: [Self; 2] = [Self::Sm80, Self::Sm90a];

    /// What a card of this compute capability runs; nothing when it is too old.
    pub fn of(capability: (u32, u32)) -> Option<Self> {
        match capability {
            (..8, _) => None,
            (8, _) => Some(Self::Sm80),
            (9, 0) => Some(Self::Sm90a),
            _ => Some(Self::Ptx80),
        }
    }

    /// As the compiler calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sm80 => "sm_80",
            Self::Sm90a => "sm_90a",
            Self::Ptx80 => "compute_80",
        }
    }

    /// The most shared memory that a block may have, in bytes: 163 KiB of an A100, 227 KiB of an H100.
    pub fn max_shared_bytes(self) -> u32 {
        match self {
            Self::Sm80 | Self::Ptx80 => 163 * 1024,
            Self::Sm90a => 227 * 1024,
        }
    }

    /// Whether a driver loads what a compiler made for this target. Machine code runs from the compiler's first minor version
    /// on; the intermediate language only on a driver that is as new as the compiler.
    pub fn fits(self, compiler: Version, driver: Version) -> bool {
        match self {
            Self::Sm80 | Self::Sm90a => compiler.major <= driver.major,
            Self::Ptx80 => compiler <= driver,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_read_and_written() {
        for text in ["12.8", "13.0", "11.4"] {
            assert_eq!(version(text).to_string(), text);
        }
        assert_eq!(Version::from_number(12_080), version("12.8"));
        assert_eq!(Version::from_number(13_000), version("13.0"));
        assert!("12.x".parse::<Version>().is_err());
        assert!(version("12.10") > version("12.9"));
        assert_eq!(LEVEL.major, Version::OLDEST_DRIVER.major);
    }

    #[test]
    fn every_capability_has_its_target() {
        let check = |capability, expected: Option<Target>| assert_eq!(Target::of(capability), expected, "{capability:?}");
        check((7, 0), None);
        check((7, 5), None);
        check((8, 0), Some(Target::Sm80));
        check((8, 6), Some(Target::Sm80));
        check((8, 9), Some(Target::Sm80));
        check((9, 0), Some(Target::Sm90a));
        check((10, 0), Some(Target::Ptx80));
        check((12, 1), Some(Target::Ptx80));
    }

    #[test]
    fn machine_code_runs_on_older_minor_versions_and_the_intermediate_language_does_not() {
        let check = |target: Target, compiler, driver, expected| {
            assert_eq!(target.fits(version(compiler), version(driver)), expected, "{target:?} {compiler} {driver}");
        };
        check(Target::Sm80, "12.8", "12.0", true);
        check(Target::Sm80, "12.8", "13.0", true);
        check(Target::Sm80, "13.0", "12.9", false);
        check(Target::Sm90a, "12.8", "11.8", false);
        check(Target::Ptx80, "12.8", "12.8", true);
        check(Target::Ptx80, "12.8", "12.4", false);
        check(Target::Ptx80, "12.8", "13.0", true);
    }
}
