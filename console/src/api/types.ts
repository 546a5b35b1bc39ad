/**
 * What the API sends: the generated schema, with the codes of the data contract (level, status,
 * health) and the names of event types narrowed to the values they have.
 */

import type { components } from "./schema";

type Schemas = components["schemas"];

export type EventType = "process" | "connection" | "file" | "loginlog" | "dns" | "syscall" | "exit" | "loss";
export const EVENT_TYPES: readonly EventType[] = [
  "process",
  "connection",
  "file",
  "loginlog",
  "dns",
  "syscall",
  "exit",
  "loss",
];

/** 0 danger, 1 suspicious, 2 hint. */
export type Level = 0 | 1 | 2;
export const LEVELS: readonly Level[] = [0, 1, 2];

/** 0 open, 1 handled, 2 ignored, 4 observed in learn mode. */
export type AlertStatus = 0 | 1 | 2 | 4;
export const ALERT_STATUSES: readonly AlertStatus[] = [0, 1, 2, 4];

/** 0 healthy, 1 offline, 2 alive but its task channel is blocked. */
export type Health = 0 | 1 | 2;
export const HEALTHS: readonly Health[] = [0, 1, 2];

export const INVENTORY_TYPES = [
  "userlist",
  "listening",
  "service",
  "startup",
  "crontab",
  "processlist",
  "package",
  "module",
  "sshkey",
  "sudoer",
  "container",
] as const;
export type InventoryType = (typeof INVENTORY_TYPES)[number];

export type ServerStatus = Schemas["Status"];
export type Session = Schemas["Session"];
export type AlertHour = Schemas["AlertHour"];
export type EventHour = Schemas["EventHour"];
export type Overview = Schemas["Overview"];
export type Sensor = Schemas["Sensor"];
export type StreamBooks = Schemas["Books"];
export type HostBooks = Schemas["HostBooks"];
export type Inventory = Schemas["Inventory"];
export type Matched = Schemas["Matched"];
export type Statistic = Schemas["Statistic"];
export type JoinToken = Schemas["NewJoinToken"];
/** A process of an alert's tree; what nobody knows any more is absent. */
export type ProcessNode = Schemas["ProcessNode"];

/** `T` with some of its properties narrowed. */
type Narrow<T, N extends { [K in keyof T]?: unknown }> = Omit<T, keyof N> & N;

export type Host = Narrow<Schemas["Host"], { health: Health }>;
export type HostDetail = Narrow<Schemas["HostDetail"], { health: Health }>;
export type Event = Narrow<Schemas["Event"], { type: EventType }>;
export type Bucket = Narrow<Schemas["Bucket"], { type: EventType }>;
export type Alert = Narrow<
  Schemas["Alert"],
  { level: Level; status: AlertStatus; raw: unknown }
>;
export type AlertPage = Narrow<Schemas["Alerts"], { alerts: Alert[] }>;
export type EventPage = Narrow<Schemas["Events"], { events: Event[] }>;
export type AlertDetail = Alert & {
  context: Narrow<Schemas["Context"], { nearby_events: Event[] }>;
};
