//! Of a limit: `sample`, and `when`, the pressure under which it holds.

use super::context::{Context, Names};
use crate::admission::Pressure;
use crate::config::file::{self, NumberOr};

const SAMPLE_MAX: u32 = 1_000;

/// How many requests one sample stands for; 1 where all are counted.
pub(super) fn sample(cx: &mut Context<'_>, limit: &file::Limit, max: u32, queues: bool) -> u32 {
    let Some(asked) = &limit.sample else {
        return 1;
    };
    let sample = cx.count("sample", Some(asked), 1, 1..=SAMPLE_MAX);
    let who = format!("limit `{}`", limit.name.value);
    if sample > 1 && queues {
        cx.error(
            "contradiction",
            asked.place,
            format!("{who} counts one request of {sample}, which is not exact enough to wait for"),
        )
        .hint("leave `queue` or `sample` away");
    }
    if matches!(limit.max.value, NumberOr::Number(_)) && max < sample {
        cx.error(
            "contradiction",
            asked.place,
            format!("{who} has {max} places and counts one request of {sample}"),
        )
        .hint("many samples make a good count: `max` a hundred times `sample` is right to a tenth");
    }
    sample
}

/// The other limit that a limit looks at, once all of them are known.
pub(super) fn pressure(
    cx: &mut Context<'_>,
    limit: &file::Limit,
    limits: &[file::Limit],
    names: &Names,
    queues: bool,
) -> Option<Pressure> {
    let wanted = &limit.when.as_ref()?;
    let who = format!("limit `{}`", limit.name.value);
    let percent = cx.count("percent", Some(&wanted.value.percent), 80, 1..=100);
    let name = &wanted.value.limit;
    let index = names.find(cx, name, "unknown_limit", &who)?;
    let other = &limits[index];
    let is_off = matches!(
        other.mode.as_ref().map(|mode| mode.value),
        Some(file::Mode::Off)
    );
    if other.when.is_some() || is_off || other.count.is_some() {
        cx.error(
            "contradiction",
            name.place,
            format!(
                "{who} looks at `{}`, which does not tell how full it is",
                name.value
            ),
        )
        .hint(
            "name a limit on what is in flight that is always counted, such as one with `per: []`",
        );
    }
    if queues {
        cx.error(
            "contradiction",
            wanted.place,
            format!(
                "{who} may stop holding at any moment, and nobody would tell those who wait for it"
            ),
        )
        .hint("use `slow`, which asks again, instead of `queue`");
    }
    if let Some(count) = limit.count.as_ref()
        && matches!(count.value, file::Count::StartsPer(_))
    {
        cx.error(
            "contradiction",
            wanted.place,
            format!("{who} paces starts, and what starts below the threshold has no pace"),
        )
        .hint("leave `when` away, or count `in_flight` or `completions_per`");
    }
    Some(Pressure {
        limit: u16::try_from(index).ok()?,
        percent,
    })
}
