/** Live alerts over server-sent events, one connection for all listeners of a tab. */

import { useEffect, useRef, useState } from "react";

import { streamUrl } from "./client";
import type { Alert } from "./types";

type Listener = (alert: Alert) => void;

const listeners = new Set<Listener>();
/** `undefined` until the first connection stands or fails. */
export type Live = boolean | undefined;

const stateListeners = new Set<(live: Live) => void>();
let source: EventSource | undefined;
let live: Live;

function setLive(value: boolean): void {
  live = value;
  for (const listener of stateListeners) listener(value);
}

function open(): void {
  if (source || listeners.size + stateListeners.size === 0) return;
  source = new EventSource(streamUrl("alerts"));
  source.onopen = () => setLive(true);
  // The browser reconnects by itself unless the server refused for good.
  source.onerror = () => {
    setLive(false);
    if (source?.readyState === EventSource.CLOSED) {
      source = undefined;
      setTimeout(open, 5_000);
    }
  };
  source.addEventListener("alert", (message) => {
    let alert: Alert;
    try {
      alert = JSON.parse((message as MessageEvent<string>).data) as Alert;
    } catch {
      return;
    }
    for (const listener of listeners) listener(alert);
  });
}

function closeWhenUnused(): void {
  if (listeners.size + stateListeners.size > 0) return;
  source?.close();
  source = undefined;
  live = undefined;
}

/** Calls `listener` for every alert raised while the component is shown. */
export function useLiveAlerts(listener: Listener): void {
  const latest = useRef(listener);
  useEffect(() => {
    latest.current = listener;
  });
  useEffect(() => {
    const call: Listener = (alert) => latest.current(alert);
    listeners.add(call);
    open();
    return () => {
      listeners.delete(call);
      closeWhenUnused();
    };
  }, []);
}

/** Whether the live stream is connected. */
export function useLiveState(): Live {
  const [value, setValue] = useState(live);
  useEffect(() => {
    stateListeners.add(setValue);
    setValue(live);
    open();
    return () => {
      stateListeners.delete(setValue);
      closeWhenUnused();
    };
  }, []);
  return value;
}
