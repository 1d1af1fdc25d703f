// Numbers, times and the state of the gate in words. Pure: from data to text, so that what the page claims can be read in one place.
// The headline says only what the figures prove: "nobody else" is said where all keys of a limit are known, and left out where not.

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (number) => plain.format(number ?? 0);
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** A rate: enough digits to tell 0.3 from 0. */
export function rate(number) {
  if (number == null) return "–";
  if (number === 0) return "0";
  return number < 0.095 ? "< 0.1" : number < 9.95 ? number.toFixed(1) : count(Math.round(number));
}

/** A span of time with its unit: 45 ms, 3.2 s, 4 min 05 s, 2 h 10 min, 3 d 4 h. */
export function span(seconds) {
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** The time of day here, with the date where it is another one. */
export function clock(date) {
  const isToday = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString("en-GB");
  return isToday ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

/** What a reason means, for whoever has not read the reference. */
export const REASONS = {
  none: "",
  limit_reached: "a limit had no place",
  queue_full: "too many waited already",
  queue_timeout: "no place came free in time",
  queue_timed_out: "no place came free in time",
  client_departed: "the client left while it waited",
  cancelled: "an operator ended it",
  draining: "the gate was going down",
};

/** The values of a key, `account` first: `noisy`, `calls · noisy`. */
export function keyName(key) {
  const values = Object.values(key);
  return values.length ? values.join(" · ") : "in flight";
}

/** Of an override: whose it is. */
export const whose = (of) => (of.account != null ? of.account : of.group != null ? `the group ${of.group}` : "every key");

/** Whether a key has been at its maximum in the last seconds. */
const isAtMax = (key) => key.max > 0 && Math.max(key.in_flight, key.peak ?? 0) >= key.max;

/** As many keys of a limit as the gate tells of. */
const KEYS_TOLD = 8;

/** Whether all keys of a limit that have anything in flight are among those that the gate tells of. */
const knowsAll = (limit) => (limit.fullest ?? []).length >= limit.keys && (limit.fullest ?? []).length < KEYS_TOLD;

/** Whether it is proved that only one key is at any limit. */
const isAlone = (limit, seen) => seen.queued === 0 && knowsAll(limit) && seen.limits.every((of) => of === limit || of.mode !== "enforce" || of.used_ratio < 1);

/** `3 requests wait for a place of reports`. */
function waitingParts(seen) {
  const where = seen.limits.filter((limit) => limit.queued > 0);
  const of = where.length === 1 ? [" of ", code(where[0].name)] : [];
  return [`${plural(seen.queued, "request waits", "requests wait")} for a place`, ...of];
}

function refusing(seen, rates) {
  const limits = seen.limits.filter((limit) => limit.mode === "enforce" && (rates.limit(limit.name)?.refused ?? 0) > 0);
  return limits.sort((a, b) => rates.limit(b.name).refused - rates.limit(a.name).refused);
}

/** A piece of the headline: text, or text with the class that sets it apart. */
const strong = (value) => ({ strong: value });
const code = (value) => ({ code: value });
const times = (number) => {
  if (number < 0.95) return "now and then";
  const whole = Math.round(number);
  return whole === 1 ? "once a second" : whole === 2 ? "twice a second" : `${count(whole)} times a second`;
};

/** Which limit refuses, who fills it, and who else is touched. */
function refusalSentence(limits, seen, rates) {
  const [first] = limits;
  const refused = (limit) => {
    const number = rates.limit(limit.name).refused;
    const whole = Math.round(number);
    return whole < 1 ? "now and then a request is refused" : whole === 1 ? "a request a second is refused" : `${count(whole)} requests a second are refused`;
  };
  const keys = first.fullest ?? [];
  const full = keys.filter(isAtMax);
  // Who is refused of late, most of all in front: a key that is only full is in nobody's way but its own.
  const touched = keys.filter((key) => key.refused_lately > 0).sort((a, b) => b.refused_lately - a.refused_lately);
  const [most] = touched.length > 0 ? touched : full;
  const isKeyed = first.per.length > 0;
  const parts = [];
  if (isKeyed && (touched.length === 1 || (touched.length === 0 && full.length === 1))) {
    parts.push(strong(keyName(most.key)), ` fills its ${plural(most.max, "place")} of `, code(first.name), `, and ${refused(first)} there`);
  } else if (isKeyed && touched.length > 1) {
    const more = touched.length >= KEYS_TOLD ? "at least " : "";
    parts.push(code(first.name), ` is full for ${more}${count(touched.length)} keys, most of all for `, strong(keyName(most.key)), `, and ${refused(first)} there`);
  } else if (full.length > 1) {
    const more = full.length >= KEYS_TOLD ? "at least " : "";
    parts.push(code(first.name), ` is full for ${more}`, strong(`${count(full.length)} keys`), `, and ${refused(first)} there`);
  } else if (isKeyed) {
    parts.push(`At `, code(first.name), ` ${refused(first)}`);
  } else {
    parts.push("The ", strong(plural(first.max, "place")), " of ", code(first.name), ` are taken, and ${refused(first)}, whoever asks`);
  }
  if (limits.length > 1) {
    parts.push("; so it is at ", code(limits[1].name), limits.length > 2 ? ` and ${plural(limits.length - 2, "more limit")}` : "");
  } else if (seen.queued > 0) parts.push("; ", ...waitingParts(seen));
  else if (isKeyed && most && full.every((key) => key === most) && touched.length < 2 && isAlone(first, seen)) parts.push("; nobody else is at a limit");
  else if (isKeyed && touched.length === 1 && knowsAll(first)) parts.push("; nobody else is refused");
  return [...parts, "."];
}

function fullestOf(limits) {
  return limits.filter((limit) => limit.mode === "enforce" && limit.max > 0).sort((a, b) => b.used_ratio - a.used_ratio)[0];
}

/** The state in one sentence: `{ tone: calm | busy | trouble, kind, parts }`. */
export function headline(seen, rates) {
  const limits = refusing(seen, rates);
  const dead = seen.upstreams.filter((upstream) => upstream.endpoints.length > 0 && upstream.healthy === 0);
  const say = (tone, kind, ...parts) => ({ tone, kind, parts });
  if (seen.phase !== "running") {
    return say("trouble", `phase ${seen.phase}`, "The gate is ", strong(seen.phase), `: ${plural(seen.in_flight, "request is", "requests are")} still in flight, and it takes no new connections.`);
  }
  if (dead.length > 0) {
    return say("trouble", `dead ${dead.map((of) => of.name)}`, "No endpoint of ", code(dead[0].name), " is healthy", dead.length > 1 ? `, nor of ${plural(dead.length - 1, "more upstream")}.` : ".");
  }
  if (limits.length > 0) {
    const who = (limits[0].fullest ?? []).filter(isAtMax).map((key) => keyName(key.key));
    return say("trouble", `refusing ${limits.map((of) => of.name)} ${who.length === 1 ? who : ""}`, ...refusalSentence(limits, seen, rates));
  }
  if (seen.queued > 0) {
    const oldest = seen.requests.waiting[0];
    const longest = oldest ? `, the longest for ${span(oldest.age_seconds)}` : "";
    const [first, ...rest] = waitingParts(seen);
    const kind = `waiting ${seen.limits.filter((limit) => limit.queued > 0).map((limit) => limit.name)}`;
    return say("busy", kind, strong(first), ...rest, `${longest}; nobody is refused.`);
  }
  const fullest = fullestOf(seen.limits);
  if (!fullest) return say("calm", "no limit", `${plural(seen.in_flight, "request is", "requests are")} in flight. No limit is enforced, so nothing is held back.`);
  const part = Math.round(fullest.used_ratio * 100);
  if (fullest.used_ratio >= 0.9) {
    const key = fullest.fullest?.[0];
    const who = key && fullest.per.length > 0 ? [strong(keyName(key.key)), " is"] : [code(fullest.name), " is"];
    const at = key ? `${count(key.in_flight)} of ${plural(key.max, "place")}` : `${part} %`;
    const of = key && fullest.per.length > 0 ? [" of ", code(fullest.name)] : [];
    return say("busy", `near ${fullest.name}`, ...who, ` at ${at}`, ...of, "; nobody is refused.");
  }
  if (seen.in_flight === 0) return say("calm", "idle", "Nothing is in flight, and nobody waits or is refused.");
  return say("calm", "calm", `All fits: ${plural(seen.in_flight, "request")} in flight, and the fullest limit, `, code(fullest.name), `, is at ${part} %.`);
}

/** The refusal that the file on disk is under: the gate remembers the last one, also when a later file is in force. */
export const standing = (seen) => (seen.last_refusal && Date.parse(seen.last_refusal.at) > Date.parse(seen.loaded_at) ? seen.last_refusal : null);

/** What else an operator should know, each in a line: `{ tone, parts }`. */
export function notes(seen, rates) {
  const lines = [];
  const add = (tone, ...parts) => lines.push({ tone, parts });
  if (standing(seen)) add("trouble", "The file on disk was refused: what runs is still generation ", strong(count(seen.generation)), ". See the configuration below.");
  const ill = seen.upstreams.filter((of) => of.healthy > 0).flatMap((of) => of.endpoints.filter((endpoint) => !endpoint.healthy));
  if (ill.length > 0) add("trouble", `${plural(ill.length, "endpoint takes", "endpoints take")} no requests: `, code(ill[0].address), ill.length > 1 ? " and more." : ".");
  const overrides = seen.limits.flatMap((limit) => limit.overrides.map((of) => ({ limit: limit.name, ...of })));
  if (overrides.length === 1) {
    const [of] = overrides;
    add("busy", "An override is in force: ", strong(count(of.max)), ` for ${whose(of)} in `, code(of.limit), `, for ${span(of.seconds_left)} more.`);
  } else if (overrides.length > 1) add("busy", strong(plural(overrides.length, "temporary override")), " are in force.");
  const shadow = seen.limits.filter((limit) => limit.mode !== "enforce" && (rates.limit(limit.name)?.would ?? 0) > 0);
  for (const limit of shadow.slice(0, 2)) add("calm", code(limit.name), `, in shadow mode, would refuse ${times(rates.limit(limit.name).would)}; it refuses nobody.`);
  if (seen.leaks_detected > 0) add("trouble", `The auditor has found ${plural(seen.leaks_detected, "count")} that did not match; please report it with the log.`);
  if (seen.log_lines_dropped > 0) add("calm", `${plural(seen.log_lines_dropped, "line")} of the access log could not be written.`);
  return lines.slice(0, 5);
}

/** The pieces as plain text. */
export const spoken = (parts) => parts.map((part) => part.strong ?? part.code ?? part).join("");
