/** Numbers, sizes and times as people read them. Pure: the clock is an argument. */

export type Lang = "en" | "zh";

const locale = (lang: Lang) => (lang === "zh" ? "zh-CN" : "en-GB");

/** A whole number with thousands separators. */
export const count = (value: number, lang: Lang) => new Intl.NumberFormat(locale(lang)).format(value);

/** A number short enough for a tile: 12,345 becomes 12.3K. Exact below 10,000. */
export const compact = (value: number, lang: Lang) =>
  value < 10_000
    ? count(value, lang)
    : new Intl.NumberFormat(locale(lang), {
        notation: "compact",
        maximumFractionDigits: 1,
      }).format(value);

/** A size in binary units. */
export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

const STEPS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];

/** "5 minutes ago"; an empty text when `time` is not a time. */
export function relative(time: string, now: number, lang: Lang): string {
  const at = Date.parse(time);
  if (Number.isNaN(at)) return "";
  const secs = Math.round((at - now) / 1000);
  const format = new Intl.RelativeTimeFormat(locale(lang), { numeric: "auto", style: "short" });
  for (const [unit, size] of STEPS) {
    if (Math.abs(secs) >= size) return format.format(Math.trunc(secs / size), unit);
  }
  return format.format(0, "second");
}

const pad = (value: number, width = 2) => String(value).padStart(width, "0");

/** `2026-01-31 09:30:00` in the time zone of the reader; the text itself when it is not a time. */
export function absolute(time: string): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return time;
  const date = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return `${date} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** `09:30` of an hour, for the axis of a chart. */
export function clock(time: string): string {
  const at = new Date(time);
  return Number.isNaN(at.getTime()) ? time : `${pad(at.getHours())}:${pad(at.getMinutes())}`;
}

const SHORT: Record<Lang, Record<string, string>> = {
  en: { day: "d", hour: "h", minute: "m", second: "s" },
  zh: { day: "天", hour: "小时", minute: "分", second: "秒" },
};

/** A duration in its two largest units, for example `3d 4h`. */
export function duration(secs: number, lang: Lang): string {
  const parts: string[] = [];
  let rest = Math.max(0, Math.floor(secs));
  for (const [unit, size] of STEPS) {
    const amount = Math.floor(rest / size);
    rest %= size;
    if (amount > 0) parts.push(`${amount}${SHORT[lang][unit]}`);
    if (parts.length === 2) break;
  }
  return parts.length === 0 ? `0${SHORT[lang].second}` : parts.join(" ");
}

/** Any JSON value of a field in one line. */
export function text(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map(text).join(" ← ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const EXCERPT_CHARS = 240;

/** The beginning of a text that stands inside a sentence or a tooltip. */
export const excerpt = (text: string) => {
  const characters = [...text.slice(0, 2 * EXCERPT_CHARS + 1)];
  return characters.length <= EXCERPT_CHARS ? text : `${characters.slice(0, EXCERPT_CHARS).join("")}…`;
};
