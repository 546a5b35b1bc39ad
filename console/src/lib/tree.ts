/** Process trees of alerts, from whatever part of them the server could still find. */

import { text } from "./format";
import { fields } from "./query";

export interface TreeNode {
  pid: number;
  ppid: number;
  name: string;
  command: string;
  user: string;
  time: string;
  depth: number;
  /** The process the alert is about. */
  subject: boolean;
}

const number = (value: unknown) => (typeof value === "number" ? value : Number(text(value)) || 0);

/**
 * Orders nodes (process events, or their fields alone) parents first and gives each its depth.
 * A node whose parent is missing stands at the left edge; a cycle of reused pids is cut.
 */
export function arrange(nodes: unknown[], subjectPid: number): TreeNode[] {
  const flat = nodes.map((node) => {
    const data = fields(node);
    const document = (typeof node === "object" && node !== null ? node : {}) as {
      time?: unknown;
    };
    return {
      pid: number(data.pid),
      ppid: number(data.ppid),
      name: text(data.name),
      command: text(data.command),
      user: text(data.user),
      time: text(document.time ?? data.time),
      depth: 0,
      subject: subjectPid !== 0 && number(data.pid) === subjectPid,
    };
  });
  const byTime = [...flat].sort((a, b) => Date.parse(a.time) - Date.parse(b.time) || 0);
  const pids = new Set(byTime.map((node) => node.pid));
  const ordered: TreeNode[] = [];
  const seen = new Set<TreeNode>();
  const visit = (node: TreeNode, depth: number) => {
    if (seen.has(node)) return;
    seen.add(node);
    ordered.push({ ...node, depth });
    const images = byTime.filter((other) => other.pid === node.pid);
    // A process that replaced its image appears once per image; children follow the last one.
    if (images.at(-1) !== node) return;
    for (const child of byTime) {
      if (child.ppid === node.pid && child.pid !== node.pid) visit(child, depth + 1);
    }
  };
  for (const node of byTime) {
    if (node.ppid === 0 || !pids.has(node.ppid) || node.ppid === node.pid) visit(node, 0);
  }
  for (const node of byTime) visit(node, 0);
  return ordered;
}
