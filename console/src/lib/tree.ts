/** The process tree of an alert: the API sends the process itself, then its ancestors. */

import type { ProcessNode } from "../api/types";

export interface TreeRow extends ProcessNode {
  depth: number;
  /** The process the alert is about. */
  subject: boolean;
}

/** The same from the oldest ancestor down, each one deeper than the one before. */
export const fromRoot = (nodes: ProcessNode[]): TreeRow[] =>
  nodes
    .map((node, generation) => ({
      ...node,
      depth: nodes.length - 1 - generation,
      subject: generation === 0,
    }))
    .reverse();
