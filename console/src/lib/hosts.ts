/** Host list: filter in the address, and order. */

import type { Host, Sensor } from "../api/types";

export interface HostFilter {
  text: string;
  tag: string;
  health: string;
}

export const hostFilter = (search: URLSearchParams): HostFilter => ({
  text: search.get("text") ?? "",
  tag: search.get("tag") ?? "",
  health: ["0", "1", "2"].includes(search.get("health") ?? "") ? (search.get("health") ?? "") : "",
});

/** Hosts that pass, those that need attention first, then by name. */
export function selectHosts(hosts: Host[], filter: HostFilter): Host[] {
  const needle = filter.text.trim().toLowerCase();
  return hosts
    .filter(
      (host) =>
        (filter.health === "" || filter.health === String(host.health)) &&
        (filter.tag === "" || host.tags.includes(filter.tag)) &&
        (needle === "" ||
          [host.hostname, host.ip, host.system, host.agent_id, ...host.tags].some((value) =>
            value.toLowerCase().includes(needle),
          )),
    )
    .sort(
      (a, b) =>
        Number(b.health !== 0) - Number(a.health !== 0) || a.hostname.localeCompare(b.hostname),
    );
}

/** Tags that occur, in order. */
export const tagsOf = (hosts: Host[]) => [...new Set(hosts.flatMap((host) => host.tags))].sort();

/** Streams that observe with the best source, with a lesser one, or not at all. */
export function sensorState(sensor: Sensor): "good" | "fallback" | "off" {
  if (!sensor.running) return "off";
  return sensor.reason === "" ? "good" : "fallback";
}

const LESSER = ["audit", "proc-connector", "proc-poll"] as const;

/** The lesser source of executions a sensor runs on, if it is one whose cost there are words for. */
export function lesserRung(sensor: Sensor): (typeof LESSER)[number] | undefined {
  if (!sensor.running || sensor.rung == null) return undefined;
  return LESSER.find((source) => source === sensor.source);
}
