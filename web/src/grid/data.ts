import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { get, query } from '../lib/api';
import { refreshEvery, useGet } from '../lib/query';
import { combined, stateOfLetter } from '../lib/states';
import type { Node, RunView, Structure, TaskState } from '../lib/types';

/** The grid's cells: one request for the structure, one for the states, then changed cells only. */

export interface Column {
  run: RunView;
  tag: string;
  cells: string;
  mapped: Record<string, Record<string, number>>;
  gone: Record<string, string>;
}

export interface GridStates {
  structure: string;
  order: string[]; // newest first
  columns: ReadonlyMap<string, Column>;
  cursor: string;
  pending: boolean;
  more: boolean;
}

export interface StatesAnswer {
  structure: string;
  order: string[];
  runs: (RunView & { tag: string; cells?: string; base?: string; diff?: (number | string)[]; mapped?: Column['mapped']; gone?: Column['gone'] })[];
  cursor: string;
  pending: boolean;
  more?: boolean;
}

/** Applies an answer to what one has. null: the answer builds on cells that are not there; ask for all. */
export function merge(old: GridStates | undefined, a: StatesAnswer): GridStates | null {
  const columns = new Map<string, Column>();
  const given = new Map(a.runs.map((r) => [r.run_id, r]));
  for (const id of a.order) {
    const had = old?.structure === a.structure ? old.columns.get(id) : undefined;
    const g = given.get(id);
    if (!g) {
      if (!had) return null;
      columns.set(id, had);
      continue;
    }
    let cells = g.cells;
    if (cells === undefined) {
      if (!had || had.tag !== g.base) return null;
      const letters = [...had.cells];
      for (let i = 0; i + 1 < (g.diff ?? []).length; i += 2) letters[g.diff?.[i] as number] = g.diff?.[i + 1] as string;
      cells = letters.join('');
    }
    columns.set(id, { run: g, tag: g.tag, cells, mapped: g.mapped ?? {}, gone: g.gone ?? {} });
  }
  return { structure: a.structure, order: a.order, columns, cursor: a.cursor, pending: a.pending, more: a.more ?? false };
}

let freshUntil = 0;
window.addEventListener('gust:changed', () => {
  freshUntil = Date.now() + 5000;
});

export interface GridFilter {
  runs: number;
  run_type: string[];
  state: string[];
  until: string;
}

export function useGridStates(dag: string, f: GridFilter) {
  const client = useQueryClient();
  const key = ['grid', dag, f.runs, f.run_type, f.state, f.until];
  return useQuery<GridStates>({
    queryKey: key,
    queryFn: async ({ signal }) => {
      const old = client.getQueryData<GridStates>(key);
      const ask = (cursor: string | undefined) =>
        get<StatesAnswer>(
          `ui/dags/${encodeURIComponent(dag)}/states` + query({ runs: f.runs, run_type: f.run_type, state: f.state, run_after_lte: f.until, cursor, fresh: Date.now() < freshUntil ? 'true' : null }),
          signal,
        );
      const merged = merge(old, await ask(old?.cursor));
      if (merged) return merged;
      const whole = merge(undefined, await ask(undefined));
      if (!whole) throw new Error('The grid has no cells for a run.');
      return whole;
    },
    refetchInterval: (q) => (q.state.data?.pending ? refreshEvery : false),
    structuralSharing: false,
  });
}

/** The rows of the grid, read once, and again when the states speak of another version of the DAG. */
export function useStructure(dag: string, hash: string | undefined) {
  const q = useGet<Structure>(`ui/dags/${encodeURIComponent(dag)}/structure`, { stale: Infinity });
  const { refetch } = q;
  const outdated = hash !== undefined && q.data !== undefined && q.data.structure !== hash;
  useEffect(() => {
    if (outdated) void refetch();
  }, [outdated, refetch]);
  return q;
}

/** A visible row. tasks are the positions of its cells in a column. */
export interface Row {
  node: Node;
  index: number; // in the structure
  tasks: number[];
  open: boolean;
}

/** Rows of a structure with closed groups left out, and per row which cells it stands for. */
export function rowsOf(nodes: Node[], closed: ReadonlySet<string>, match: string): Row[] {
  const position: number[] = [];
  let n = 0;
  for (const node of nodes) position.push(node.group ? -1 : n++);
  const below: number[][] = nodes.map(() => []);
  nodes.forEach((node, i) => {
    if (node.group) return;
    const p = position[i] ?? -1;
    below[i]?.push(p);
    for (let g = node.parent; g >= 0; g = nodes[g]?.parent ?? -1) below[g]?.push(p);
  });
  const wanted = match.toLowerCase();
  const hit = nodes.map((node) => !wanted || node.id.toLowerCase().includes(wanted) || node.label.toLowerCase().includes(wanted));
  if (wanted) {
    nodes.forEach((node, i) => {
      if (hit[i]) for (let g = node.parent; g >= 0; g = nodes[g]?.parent ?? -1) hit[g] = true;
    });
  }
  const rows: Row[] = [];
  nodes.forEach((node, i) => {
    if (!hit[i]) return;
    for (let g = node.parent; g >= 0; g = nodes[g]?.parent ?? -1) if (!wanted && closed.has(nodes[g]?.id ?? '')) return;
    rows.push({ node, index: i, tasks: below[i] ?? [], open: node.group === true && (!!wanted || !closed.has(node.id)) });
  });
  return rows;
}

/** State of a row in a column; undefined where the run does not have it. */
export function cellState(row: Row, c: Column): TaskState | null | undefined {
  if (row.tasks.length === 1) return stateOfLetter(c.cells[row.tasks[0] ?? -1]);
  const states = new Set<TaskState | null | undefined>();
  for (const t of row.tasks) states.add(stateOfLetter(c.cells[t]));
  return combined(states);
}
