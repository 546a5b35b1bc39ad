/**
 * The search language: conditions `key:value` joined by bars; the first colon splits. A bar inside
 * a value is written `\|`.
 */

import type { Alert, Event, EventType } from "../api/types";
import { EVENT_TYPES } from "../api/types";

export interface Condition {
  key: string;
  value: string;
}

/** Places of the bars that join conditions. */
const bars = (query: string) => [...query.matchAll(/(?<!\\)\|/g)].map((match) => match.index);

const unescape = (value: string) => value.replaceAll("\\|", "|");

/** Splits a query into its conditions; a part without a colon gets an empty value. */
export function parse(query: string): Condition[] {
  const ends = [...bars(query), query.length];
  return ends
    .map((end, index) => query.slice(index === 0 ? 0 : (ends[index - 1] ?? 0) + 1, end).trim())
    .filter((part) => part !== "")
    .map((part) => {
      const colon = part.indexOf(":");
      return colon < 0
        ? { key: part, value: "" }
        : { key: part.slice(0, colon).trim(), value: unescape(part.slice(colon + 1).trim()) };
    });
}

/** One condition as it is written. */
export const write = ({ key, value }: Condition) => `${key}:${value.replaceAll("|", "\\|")}`;

/** Joins the conditions that have a value. */
export const build = (conditions: Condition[]) =>
  conditions
    .filter(({ value }) => value !== "")
    .map(write)
    .join(" | ");

/** The type a query asks for, when it names one of the event types. */
export function eventType(query: string): EventType | undefined {
  const named = parse(query).find(({ key }) => key === "type")?.value;
  return EVENT_TYPES.find((type) => type === named);
}

/** Whether a query can be sent at all: it must name a type. */
export const hasType = (query: string) =>
  parse(query).some(({ key, value }) => key === "type" && value !== "");

/** The condition around the caret: where it starts and ends, and what is typed so far. */
export interface Segment {
  start: number;
  end: number;
  key: string;
  /** Absent while the key is still being typed. */
  value: string | undefined;
}

export function segmentAt(query: string, caret: number): Segment {
  const all = bars(query);
  const start = (all.filter((bar) => bar < caret).at(-1) ?? -1) + 1;
  const end = all.find((bar) => bar >= caret) ?? query.length;
  const part = query.slice(start, end);
  const colon = part.indexOf(":");
  return colon < 0
    ? { start, end, key: part.trim(), value: undefined }
    : {
        start,
        end,
        key: part.slice(0, colon).trim(),
        value: unescape(part.slice(colon + 1).trim()),
      };
}

/** Puts `condition` in place of a segment, with one space around bars. */
export function replaceSegment(query: string, segment: Segment, condition: string): string {
  const before = query.slice(0, segment.start).trimEnd();
  const after = query.slice(segment.end).trimStart();
  return [before, condition, after].filter((part) => part !== "").join(" ");
}

/** Fields that point at one event of a type better than others, best first. */
const POINTERS: Record<EventType, readonly string[]> = {
  process: ["pid", "name"],
  connection: ["remote_ip", "pid"],
  file: ["path", "hash"],
  loginlog: ["username", "remote"],
  dns: ["query", "pid"],
  syscall: ["call", "pid"],
  exit: ["name", "pid"],
  loss: ["stream", "reason"],
};

/** Half of the time range that a jump from an alert to the search covers. */
const AROUND_MS = 5 * 60 * 1000;

export interface Jump {
  q: string;
  since: string;
  until: string;
}

/** The search that returns the event behind an alert; `undefined` for anything but events. */
export function jumpFromAlert(alert: Alert): Jump | undefined {
  const type = EVENT_TYPES.find((name) => name === alert.type);
  const at = Date.parse(alert.time);
  if (!type || Number.isNaN(at)) return undefined;
  const data = fields(alert.raw);
  const pointers = POINTERS[type].map((key) => ({
    key: typeof data[key] === "string" ? `${key}.keyword` : key,
    value: scalar(data[key]),
  }));
  return {
    q: build([{ key: "type", value: type }, { key: "ip", value: alert.ip }, ...pointers]),
    since: new Date(at - AROUND_MS).toISOString(),
    until: new Date(at + AROUND_MS).toISOString(),
  };
}

const scalar = (value: unknown) =>
  typeof value === "string" || typeof value === "number" ? String(value) : "";

/** The fields of an event or of an inventory element. */
export function fields(raw: unknown): Record<string, unknown> {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) return {};
  const document = raw as Record<string, unknown>;
  const data = document.data;
  return typeof data === "object" && data !== null && !Array.isArray(data)
    ? (data as Record<string, unknown>)
    : document;
}

/** The event an alert is about; `undefined` when it is about something else. */
export function eventOf(raw: unknown): Event | undefined {
  const event = raw as Partial<Event> | null;
  return typeof event?.id === "string" && typeof event.time === "string" && event.type
    ? { ...(event as Event), data: fields(raw) }
    : undefined;
}

/** Events as they happened. */
export const inOrder = (events: Event[]) =>
  [...events].sort((a, b) => Date.parse(a.time) - Date.parse(b.time));

/** One line that says what an event is about. */
export function summary(type: string, data: Record<string, unknown>): string {
  const of = (key: string) => scalar(data[key]);
  switch (type) {
    case "process":
      return of("command") || of("name");
    case "connection": {
      const arrow = of("dir") === "in" ? "←" : "→";
      const state = of("state") === "" ? "" : ` · ${of("state")}`;
      return `${of("protocol")} ${of("local")} ${arrow} ${of("remote")}${state}${
        of("name") === "" ? "" : ` · ${of("name")}`
      }`;
    }
    case "file":
      return `${of("action")} ${of("path")}${of("actor_name") === "" ? "" : ` · ${of("actor_name")}`}`;
    case "loginlog":
      return `${of("username")}${of("remote") === "" ? "" : ` ← ${of("remote")}`} · ${
        of("status") === "true" ? "✓" : "✗"
      }`;
    case "dns": {
      const answers = Array.isArray(data.answers) ? data.answers.map(scalar) : [];
      const answer = [of("rcode"), ...answers].filter(Boolean).join(" ");
      return `${of("qtype")} ${of("query")}${answer === "" ? "" : ` → ${answer}`}${
        of("name") === "" ? "" : ` · ${of("name")}`
      }`;
    }
    case "exit":
      return `${of("signal") || of("exit_code")} · ${of("name")}`;
    case "syscall": {
      const error = of("errno") === "" ? "" : ` · ${of("errno")}`;
      const target = of("target") === "" ? "" : ` ${of("target")}`;
      return `${of("call")}${target}${error}${of("name") === "" ? "" : ` · ${of("name")}`}`;
    }
    default:
      return Object.values(data).map(scalar).filter(Boolean).join(" ");
  }
}

/** Seconds per bucket that give about 60 buckets, from steps people can read. */
export function interval(rangeMs: number): number {
  const steps = [10, 30, 60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400];
  const wanted = rangeMs / 1000 / 60;
  return steps.find((step) => step >= wanted) ?? 604_800;
}
