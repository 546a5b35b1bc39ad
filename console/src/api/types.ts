/**
 * What the API sends, as `docs/api.md` and the documents of the `model` crate name it.
 * Numbers in place of names (level, status, health) are the codes of the data contract.
 */

export type EventType = "process" | "connection" | "file" | "loginlog";
export const EVENT_TYPES: readonly EventType[] = ["process", "connection", "file", "loginlog"];

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
] as const;
export type InventoryType = (typeof INVENTORY_TYPES)[number];

export interface ServerStatus {
  version: string;
  setup_required: boolean;
  learn: boolean;
}

export interface Session {
  username: string;
  role: string;
  csrf_token: string;
}

export interface AlertHour {
  start: string;
  danger: number;
  suspicious: number;
  hint: number;
}

export type EventHour = { start: string } & Record<EventType, number>;

export interface Overview {
  hosts: { total: number; healthy: number; offline: number; blocked: number };
  alerts: {
    open: { danger: number; suspicious: number; hint: number };
    learned: number;
    today: number;
  };
  alerts_per_hour: AlertHour[];
  events_per_hour: EventHour[];
  events: { stored: number; bytes: number };
  ledger: { emitted: number; stored: number; filtered: number; dropped: number };
  learn: boolean;
  server: { version: string; started_at: string; rss_bytes: number };
}

export interface Sensor {
  stream: string;
  source: string;
  running: boolean;
  reason: string;
}

export interface Host {
  agent_id: string;
  ip: string;
  hostname: string;
  system: string;
  type: string;
  tags: string[];
  path: string[];
  health: Health;
  uptime: string;
  enrolled_at: string;
  agent_version: string;
  sensors: Sensor[];
  open_alerts: number;
}

export interface StreamBooks {
  emitted: number;
  spooled: number;
  filtered: number;
  dropped: Record<string, number>;
  stored: number;
  in_flight: number;
  balanced: boolean;
}

export interface HostDetail extends Host {
  addresses: string[];
  usage: { cpu_ms: number; pss_bytes: number; spool_bytes: number; spool_events: number };
  ledger: Record<string, StreamBooks>;
  inventories: { type: string; count: number; uptime: string }[];
}

export interface Inventory {
  type: string;
  uptime: string;
  data: Record<string, string>[];
}

export interface HostBooks {
  agent_id: string;
  hostname: string;
  streams: Record<string, StreamBooks>;
}

export interface Matched {
  field: string;
  value: string;
  condition: string;
}

export interface Alert {
  id: string;
  agent_id: string;
  ip: string;
  hostname: string;
  type: string;
  source: string;
  rule_id: string;
  level: Level;
  info: string;
  description: string;
  description_zh: string;
  attack: string[];
  status: AlertStatus;
  time: string;
  raised_at: string;
  uptime: string;
  count: number;
  matched: Matched[];
  raw: unknown;
}

export interface AlertPage {
  alerts: Alert[];
  total: number;
}

export interface Statistic {
  type: string;
  info: string;
  count: number;
  server_list: string[];
  exist_count: number;
  uptime: string;
}

export interface Event {
  id: string;
  agent_id: string;
  ip: string;
  hostname: string;
  system: string;
  seq: number;
  time: string;
  observed_at: string;
  ingested_at: string;
  type: EventType;
  data: Record<string, unknown>;
}

/** A process of an alert's tree; what nobody knows any more is absent. */
export interface ProcessNode {
  pid?: number;
  ppid?: number;
  name: string;
  command?: string;
  user?: string;
  time?: string;
  event_id?: string;
}

export interface AlertDetail extends Alert {
  context: {
    statistic?: Statistic | null;
    /** The process itself, then its ancestors, nearest first. */
    process_tree: ProcessNode[];
    nearby_events: Event[];
  };
}

export interface Bucket {
  start: string;
  type: EventType;
  count: number;
}

export interface EventPage {
  events: Event[];
  next: string | null;
  partial: boolean;
}

export interface JoinToken {
  token: string;
  expires_at: string;
  command: string;
}
