import { graphlib, layout } from '@dagrejs/dagre';
import type { Node } from '../lib/types';

/** Places tasks and groups in layers. Closed groups are one box that has the edges of their tasks. */

export interface Box {
  id: string;
  index: number;
  x: number; // centre
  y: number;
  w: number;
  h: number;
  group: boolean;
  open: boolean;
}

export interface Edge {
  from: string;
  to: string;
  points: { x: number; y: number }[];
}

export interface Picture {
  boxes: Box[];
  edges: Edge[];
  width: number;
  height: number;
}

const nameLine = 16;

export function boxWidth(label: string): number {
  return Math.max(120, Math.min(280, 44 + label.length * 7.4));
}

export function place(nodes: Node[], closed: ReadonlySet<string>, direction: 'LR' | 'TB'): Picture {
  // Tasks inside a closed group are stood for by the outermost closed one.
  const stand: number[] = nodes.map((_, i) => {
    let s = i;
    for (let g = nodes[i]?.parent ?? -1; g >= 0; g = nodes[g]?.parent ?? -1) if (closed.has(nodes[g]?.id ?? '')) s = g;
    return s;
  });
  const g = new graphlib.Graph({ compound: true, multigraph: false });
  g.setGraph({ rankdir: direction, nodesep: 26, ranksep: 46, edgesep: 8, marginx: 16, marginy: 40 });
  g.setDefaultEdgeLabel(() => ({}));
  nodes.forEach((n, i) => {
    if (stand[i] !== i) return;
    const open = n.group === true && !closed.has(n.id);
    g.setNode(n.id, open ? {} : { width: boxWidth(n.label), height: 52 });
    const parent = n.parent >= 0 ? nodes[n.parent] : undefined;
    if (parent) g.setParent(n.id, parent.id);
  });
  // A group without members cannot be laid out as a group.
  nodes.forEach((n, i) => {
    if (n.group && stand[i] === i && !closed.has(n.id) && !g.children(n.id)?.length) g.setNode(n.id, { width: boxWidth(n.label), height: 52 });
  });
  nodes.forEach((n, i) => {
    for (const d of n.downstream ?? []) {
      const a = nodes[stand[i] ?? i]?.id;
      const b = nodes[stand[d] ?? d]?.id;
      if (a && b && a !== b) g.setEdge(a, b);
    }
  });
  layout(g);
  // An open group grows upwards by a line for its name, and by one more for each level of open groups inside.
  const levels: number[] = nodes.map(() => 0);
  for (let i = nodes.length - 1; i >= 0; i--) {
    const n = nodes[i];
    if (!n?.group || closed.has(n.id)) continue;
    levels[i] = Math.max(levels[i] ?? 0, 1);
    if (n.parent >= 0) levels[n.parent] = Math.max(levels[n.parent] ?? 0, (levels[i] ?? 0) + 1);
  }
  const boxes: Box[] = [];
  nodes.forEach((n, i) => {
    if (stand[i] !== i) return;
    const v = g.node(n.id) as { x: number; y: number; width: number; height: number } | undefined;
    if (!v) return;
    const open = n.group === true && !closed.has(n.id);
    const more = open ? nameLine * (levels[i] ?? 1) : 0;
    boxes.push({ id: n.id, index: i, x: v.x, y: v.y - more / 2, w: v.width, h: v.height + more, group: n.group === true, open });
  });
  const edges = g.edges().map((e) => ({ from: e.v, to: e.w, points: (g.edge(e) as { points?: { x: number; y: number }[] }).points ?? [] }));
  const size = g.graph() as { width?: number; height?: number };
  return { boxes, edges, width: size.width ?? 100, height: size.height ?? 100 };
}
