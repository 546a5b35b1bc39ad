/** Buckets of the API as rows of a chart: one value per type and step, gaps filled with zero. */

import type { Bucket, EventType } from "../api/types";
import { EVENT_TYPES } from "../api/types";

/** More steps than this are not drawn one by one; gaps then stay closed. */
const MAX_STEPS = 400;

/**
 * `from` and `to` (milliseconds) are the range that was asked for: the chart covers it whole, on
 * the grid of the buckets.
 */
export function bucketize(buckets: Bucket[], secs: number, from: number, to: number) {
  const times = buckets.map(({ start }) => Date.parse(start)).filter((time) => !Number.isNaN(time));
  const step = secs * 1000;
  const low = Math.min(...times);
  const first = low - (from < low ? Math.floor((low - from) / step) : 0) * step;
  const last = Math.max(to - 1, ...times);
  const steps: number[] = [];
  if (times.length > 0 && (last - first) / step < MAX_STEPS) {
    for (let time = first; time <= last; time += step) steps.push(time);
  } else {
    steps.push(...[...new Set(times)].sort((a, b) => a - b));
  }
  const counts = {} as Record<EventType, number[]>;
  for (const type of EVENT_TYPES) counts[type] = steps.map(() => 0);
  for (const { start, type, count } of buckets) {
    const index = steps.indexOf(Date.parse(start));
    const row = counts[type];
    if (index >= 0 && row) row[index] = (row[index] ?? 0) + count;
  }
  return { starts: steps.map((time) => new Date(time).toISOString()), counts };
}
