/** Time ranges of the search, as they stand in the address. */

export const RANGES = ["15m", "1h", "24h", "7d", "30d", "all"] as const;
export const DEFAULT_RANGE = "24h";

const MINUTE = 60_000;
const LENGTHS: Record<string, number> = {
  "15m": 15 * MINUTE,
  "1h": 60 * MINUTE,
  "24h": 24 * 60 * MINUTE,
  "7d": 7 * 24 * 60 * MINUTE,
  "30d": 30 * 24 * 60 * MINUTE,
};

export interface Range {
  /** A name from {@link RANGES}, or `custom`. */
  name: string;
  since: string;
  until: string;
}

const valid = (time: string | null) =>
  time !== null && !Number.isNaN(Date.parse(time)) ? new Date(time).toISOString() : "";

/** Reads the range; named ones end at `now`, so that paging sees one fixed range. */
export function fromSearch(search: URLSearchParams, now: number): Range {
  const since = valid(search.get("since"));
  const until = valid(search.get("until"));
  if (since !== "" || until !== "") return { name: "custom", since, until };
  const asked = search.get("range") ?? DEFAULT_RANGE;
  if (asked === "all") return { name: "all", since: "", until: "" };
  const name = asked in LENGTHS ? asked : DEFAULT_RANGE;
  const length = LENGTHS[name] ?? 0;
  return { name, since: new Date(now - length).toISOString(), until: "" };
}

const YEAR = 365 * 24 * 60 * MINUTE;

export interface Span {
  /** Milliseconds since 1970, from and to. */
  from: number;
  to: number;
  /** Whether the person chose the start; if not, the chart begins with the first event. */
  chosen: boolean;
}

/** What the histogram covers: the range, or the last year where it has no start. */
export function spanOf(range: Range, now: number): Span {
  const to = range.until === "" ? now : Date.parse(range.until);
  const from = range.since === "" ? to - YEAR : Date.parse(range.since);
  return { from: Math.min(from, to - MINUTE), to, chosen: range.since !== "" };
}

/** `YYYY-MM-DDTHH:MM:SS` in the reader's time zone, what the browser's time field wants. */
export function toField(time: string): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return "";
  return new Date(at.getTime() - at.getTimezoneOffset() * MINUTE).toISOString().slice(0, 19);
}

/** The way back; an empty text when the field is empty. */
export const fromField = (value: string) => valid(value === "" ? null : value);
