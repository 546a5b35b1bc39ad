/** The books: every observed thing is stored, filtered, lost with a reason, or on its way. */

import type { HostBooks, StreamBooks } from "../api/types";

export interface Total {
  emitted: number;
  stored: number;
  filtered: number;
  dropped: number;
  inFlight: number;
  balanced: boolean;
}

/** All losses of a stream together. */
export const droppedTotal = (books: StreamBooks) =>
  Object.values(books.dropped).reduce((sum, value) => sum + value, 0);

/** One stream; whether it balances is the server's verdict. */
export const streamTotal = (books: StreamBooks): Total => ({
  emitted: books.emitted,
  stored: books.stored,
  filtered: books.filtered,
  dropped: droppedTotal(books),
  inFlight: books.in_flight,
  balanced: books.balanced,
});

/** Hosts whose books do not balance first, then those that lost something, then by name. */
export function byUrgency(hosts: HostBooks[]): HostBooks[] {
  const urgency = (host: HostBooks) => {
    const total = fleetTotal([host]);
    return total.balanced ? Number(total.dropped === 0) + 1 : 0;
  };
  return [...hosts].sort(
    (a, b) => urgency(a) - urgency(b) || a.hostname.localeCompare(b.hostname),
  );
}

/** Everything together; balanced only when every stream of every host is. */
export function fleetTotal(hosts: HostBooks[]): Total {
  const total: Total = {
    emitted: 0,
    stored: 0,
    filtered: 0,
    dropped: 0,
    inFlight: 0,
    balanced: true,
  };
  for (const host of hosts) {
    for (const books of Object.values(host.streams)) {
      const stream = streamTotal(books);
      total.emitted += stream.emitted;
      total.stored += stream.stored;
      total.filtered += stream.filtered;
      total.dropped += stream.dropped;
      total.inFlight += stream.inFlight;
      total.balanced &&= stream.balanced;
    }
  }
  return total;
}
