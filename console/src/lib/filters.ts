/** Alert filters as they stand in the address, and as the API wants them. */

import type { Params } from "../api/client";
import type { Alert } from "../api/types";

export interface AlertFilter {
  /** A status code, or `all`. */
  status: string;
  level: string;
  agent_id: string;
  type: string;
  text: string;
  since: string;
}

const OPEN = "0";
const LEARNED = "4";

const oneOf = (value: string | null, allowed: readonly string[]) =>
  value !== null && allowed.includes(value) ? value : "";

/** The status of a list nobody narrowed: what waits for a decision, or what was learned so far. */
export const usualStatus = (learn: boolean) => (learn ? LEARNED : OPEN);

/** Reads the filter; what makes no sense is ignored. `usual` is the status nobody has to write. */
export function fromSearch(search: URLSearchParams, usual: string): AlertFilter {
  return {
    status: oneOf(search.get("status"), ["0", "1", "2", "4", "all"]) || usual,
    level: oneOf(search.get("level"), ["0", "1", "2"]),
    agent_id: search.get("agent_id") ?? "",
    type: search.get("type") ?? "",
    text: search.get("text") ?? "",
    since: Number.isNaN(Date.parse(search.get("since") ?? "")) ? "" : (search.get("since") ?? ""),
  };
}

/** Writes the filter; defaults are left out so that addresses stay short. */
export function toSearch(filter: AlertFilter, usual: string): URLSearchParams {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(filter) as [string, string][]) {
    if (value !== "" && !(key === "status" && value === usual)) search.set(key, value);
  }
  return search;
}

export const toParams = (filter: AlertFilter): Params => ({
  ...filter,
  status: filter.status === "all" ? "" : filter.status,
});

/** Whether a fresh alert belongs into the list that is shown. */
export function accepts(filter: AlertFilter, alert: Alert): boolean {
  const needle = filter.text.toLowerCase();
  const haystack = [alert.source, alert.info, alert.description];
  return (
    (filter.status === "all" || filter.status === String(alert.status)) &&
    (filter.level === "" || filter.level === String(alert.level)) &&
    (filter.agent_id === "" || filter.agent_id === alert.agent_id) &&
    (filter.type === "" || filter.type === alert.type) &&
    (needle === "" || haystack.some((value) => value.toLowerCase().includes(needle)))
  );
}

/** Repetitions in the batch that raised an alert are at most this much later, milliseconds. */
const SAME_MOMENT_MS = 1_000;

/** Whether the stream tells of a new alert, not of a repetition or of a change of status. */
export const isFirst = (alert: Alert) =>
  alert.uptime === alert.time ||
  Date.parse(alert.uptime) - Date.parse(alert.raised_at) < SAME_MOMENT_MS;

/** The list with a repeated alert in its place; anything else leaves it as it is. */
export const withRepeated = (alerts: Alert[], alert: Alert): Alert[] =>
  alerts.some((row) => row.id === alert.id && row.status === alert.status)
    ? alerts.map((row) => (row.id === alert.id ? alert : row))
    : alerts;

/** Whether anything beyond the status narrows the list. */
export const isNarrowed = (filter: AlertFilter) =>
  [filter.level, filter.agent_id, filter.type, filter.text, filter.since].some((v) => v !== "");
