// @vitest-environment node
import { describe, expect, test, vi } from 'vitest';
import type { Node } from '../lib/types';
import type { StatesAnswer } from './data';

vi.stubGlobal('window', { addEventListener: () => undefined });
const { cellState, merge, rowsOf } = await import('./data');
const { place } = await import('./layout');

const nodes: Node[] = [
  { id: 'a', label: 'a', depth: 0, parent: -1, downstream: [2, 3] },
  { id: 'g', label: 'g', depth: 0, parent: -1, group: true },
  { id: 'g.b', label: 'b', depth: 1, parent: 1, downstream: [4] },
  { id: 'g.c', label: 'c', depth: 1, parent: 1, downstream: [4] },
  { id: 'd', label: 'd', depth: 0, parent: -1 },
];
const run = (run_id: string) => ({ run_id, state: 'running' as const, run_type: 'manual', run_after: '2026-01-01T00:00:00Z', logical_date: null, queued_at: null, start_date: null, end_date: null, dag_version: 1 });
const answer = (runs: StatesAnswer['runs'], order: string[], structure = 's'): StatesAnswer => ({ structure, order, runs, cursor: order.join(), pending: true });

describe('states', () => {
  const first = merge(undefined, answer([{ ...run('r1'), tag: 't1', cells: '....' }, { ...run('r2'), tag: 't2', cells: 'ssss' }], ['r1', 'r2']));
  test('an answer without changes keeps everything, the same objects', () => {
    const next = merge(first ?? undefined, answer([], ['r1', 'r2']));
    expect(next?.columns.get('r1')).toBe(first?.columns.get('r1'));
  });
  test('changed cells are applied to what they build on', () => {
    const next = merge(first ?? undefined, answer([{ ...run('r1'), tag: 't3', base: 't1', diff: [0, 's', 2, 'r'] }], ['r1', 'r2']));
    expect(next?.columns.get('r1')?.cells).toBe('s.r.');
    expect(next?.columns.get('r2')?.cells).toBe('ssss');
  });
  test('changes of something else ask for all', () => {
    expect(merge(first ?? undefined, answer([{ ...run('r1'), tag: 't4', base: 'other', diff: [0, 's'] }], ['r1']))).toBeNull();
    expect(merge(undefined, answer([], ['r1']))).toBeNull();
    expect(merge(first ?? undefined, answer([], ['r1'], 'another version'))).toBeNull();
  });
  test('runs leave when they are no longer listed', () => {
    expect(merge(first ?? undefined, answer([], ['r2']))?.columns.size).toBe(1);
  });
});

describe('rows', () => {
  const ids = (closed: string[], match = '') => rowsOf(nodes, new Set(closed), match).map((r) => r.node.id);
  test('groups fold; a search opens them', () => {
    expect(ids([])).toEqual(['a', 'g', 'g.b', 'g.c', 'd']);
    expect(ids(['g'])).toEqual(['a', 'g', 'd']);
    expect(ids(['g'], 'C')).toEqual(['g', 'g.c']);
  });
  test('a group shows the weightiest state below it', () => {
    const [, g] = rowsOf(nodes, new Set(), '');
    const column = (cells: string) => ({ run: run('r'), tag: '', cells, mapped: {}, gone: {} });
    expect(g && cellState(g, column('sfss'))).toBe('failed');
    expect(g && cellState(g, column('fsss'))).toBe('success');
    expect(g && cellState(g, column('s  s'))).toBeUndefined();
  });
});

describe('layout', () => {
  test('layers run from left to right; a closed group has the edges of its tasks', () => {
    const open = place(nodes, new Set(), 'LR');
    const x = (id: string) => open.boxes.find((b) => b.id === id)?.x ?? 0;
    expect(x('a')).toBeLessThan(x('g.b'));
    expect(x('g.b')).toBeLessThan(x('d'));
    expect(open.edges.length).toBe(4);
    const closed = place(nodes, new Set(['g']), 'LR');
    expect(closed.boxes.map((b) => b.id)).toEqual(['a', 'g', 'd']);
    expect(closed.edges.map((e) => `${e.from}>${e.to}`).sort()).toEqual(['a>g', 'g>d']);
  });
});
