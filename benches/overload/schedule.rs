//! What is sent when, and how much work it is: known before anything is sent.
//!
//! Arrivals of each account are Poisson, and its service times come from one of three distributions of the same mean. Both
//! are drawn from the seed and the account's name alone. So every proxy gets the same requests at the same instants, and an
//! account sends the same ones whoever else is there: its latency beside others compares with its latency alone, request by
//! request, and no luck of the draw is in the ratio. Never looks at what was answered.

use std::time::Duration;

use clap::ValueEnum;
use fastrand::Rng;

/// Of the bimodal distribution: the share of long requests, and how much longer they are.
const LONG_SHARE: f64 = 0.1;
const LONG_TIMES: f64 = 10.0;

/// How service times are spread around their mean.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Distribution {
    /// Memoryless: p99 is 4.6 times the mean.
    Exponential,
    /// All alike.
    Constant,
    /// Nine of ten are short, the tenth takes ten times longer.
    Bimodal,
}

impl Distribution {
    fn draw(self, mean: Duration, rng: &mut Rng) -> Duration {
        match self {
            Self::Exponential => mean.mul_f64(exponential(rng)),
            Self::Constant => mean,
            Self::Bimodal => {
                let short = mean.div_f64(1.0 - LONG_SHARE + LONG_SHARE * LONG_TIMES);
                if rng.f64() < LONG_SHARE {
                    short.mul_f64(LONG_TIMES)
                } else {
                    short
                }
            }
        }
    }
}

/// One account's part of the load.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    pub(crate) account: String,
    /// Requests a second.
    pub(crate) rate: f64,
}

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (account, rate) = text.split_once('=').ok_or("write NAME=REQUESTS_A_SECOND")?;
        let rate: f64 = rate.parse().map_err(|_| format!("`{rate}` is no rate"))?;
        if !(rate.is_finite() && rate > 0.0) {
            return Err(format!("the rate of `{account}` is not above 0"));
        }
        Ok(Self {
            account: account.to_owned(),
            rate,
        })
    }
}

/// One request to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// From the start of the load.
    pub(crate) due: Duration,
    /// The index of its share.
    pub(crate) account: usize,
    /// How long a worker is busy with it.
    pub(crate) work: Duration,
}

/// All arrivals within `span`, in order.
pub(crate) fn arrivals(
    shares: &[Share],
    span: Duration,
    work: (Distribution, Duration),
    seed: u64,
) -> Vec<Arrival> {
    let mut all = Vec::new();
    for (account, share) in shares.iter().enumerate() {
        let seed = share.account.bytes().fold(seed, |hash, byte| {
            hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte)
        });
        // Two sequences, so that another distribution leaves the instants as they are.
        let (mut instants, mut works) = (Rng::with_seed(seed), Rng::with_seed(!seed));
        let gap = Duration::from_secs(1).div_f64(share.rate);
        let mut due = gap.mul_f64(exponential(&mut instants));
        while due < span {
            all.push(Arrival {
                due,
                account,
                work: work.0.draw(work.1, &mut works),
            });
            due += gap.mul_f64(exponential(&mut instants));
        }
    }
    all.sort_by_key(|arrival| (arrival.due, arrival.account));
    all
}

/// An exponential variable of mean 1.
fn exponential(rng: &mut Rng) -> f64 {
    // `f64` is below 1, so the logarithm is finite.
    -(1.0 - rng.f64()).ln()
}
