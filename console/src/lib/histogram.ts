/** Buckets of the API as rows of a chart: one value per type and step, gaps filled with zero. */

import type { Bucket, EventType } from "../api/types";
import { EVENT_TYPES } from "../api/types";

/** More steps than this are not drawn one by one; gaps then stay closed. */
const MAX_STEPS = 400;

export function bucketize(buckets: Bucket[], secs: number) {
  const times = buckets.map(({ start }) => Date.parse(start)).filter((time) => !Number.isNaN(time));
  const first = Math.min(...times);
  const last = Math.max(...times);
  const step = secs * 1000;
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
