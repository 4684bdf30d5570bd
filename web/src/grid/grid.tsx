import { memo, useCallback, useLayoutEffect, useMemo, useRef, useState } from 'react';
import { useLocation } from 'wouter';
import { to, url } from '../lib/api';
import { useShortcuts } from '../lib/keys';
import { useNow } from '../lib/query';
import { cssState, stateLabel } from '../lib/states';
import { formatTime, secondsBetween, shortDuration } from '../lib/time';
import type { TaskState } from '../lib/types';
import { useZone } from '../ui/base';
import { Icon } from '../ui/icons';
import { cellState, type Column, type GridStates, type Row } from './data';

export const rowHeight = 20;
export const columnWidth = 18;
const overscanRows = 6;

export interface Selection {
  run?: string | undefined;
  task?: string | undefined;
}

interface Props {
  dag: string;
  rows: Row[];
  states: GridStates;
  selected: Selection;
  onToggle: (group: string) => void;
  onMenu: (at: { x: number; y: number; run: string; task?: string | undefined; group?: boolean | undefined; state: string | null }) => void;
}

interface Window {
  top: number;
  bottom: number;
  left: number;
  right: number;
}

const icons: Record<string, string> = { manual: 'play', backfill: 'clear', asset_triggered: 'assets', asset_materialization: 'assets' };

/** Where a click on a row's cell leads. */
export function cellHref(dag: string, run: string, row: Row, c: Column): string {
  if (row.node.group) return to.run(dag, run) + '?group=' + encodeURIComponent(row.node.id);
  if (row.node.mapped && c.mapped[row.node.id]) return to.ti(dag, run, row.node.id) + '/mapped';
  return to.ti(dag, run, row.node.id);
}

/** The grid: only cells in sight are in the document. */
export function Grid({ dag, rows, states, selected, onToggle, onMenu }: Props) {
  const zone = useZone();
  const [, go] = useLocation();
  const box = useRef<HTMLDivElement>(null);
  const tip = useRef<HTMLDivElement>(null);
  const columns = useMemo(() => states.order.map((id) => states.columns.get(id)).filter((c): c is Column => c !== undefined).reverse(), [states]);
  const [size, setSize] = useState({ w: 300, h: 600 });
  const [win, setWin] = useState<Window>({ top: 0, bottom: 45, left: 0, right: 60 });
  const runningNow = columns.some((c) => c.run.state === 'running');
  const now = useNow(runningNow);

  const deepest = useMemo(() => rows.reduce((m, r) => Math.max(m, r.node.depth * 12 + r.node.label.length * 7.2), 0), [rows]);
  const room = size.w - columns.length * columnWidth - 14;
  const nameWidth = Math.round(Math.max(90, Math.min(Math.max(room, 140), Math.max(deepest + 44, room, 120), size.w * 0.8)));

  const measure = useCallback(() => {
    const e = box.current;
    if (!e) return;
    const top = Math.max(0, Math.floor(e.scrollTop / rowHeight) - overscanRows);
    const bottom = Math.ceil((e.scrollTop + e.clientHeight) / rowHeight) + overscanRows;
    const left = Math.max(0, Math.floor(e.scrollLeft / columnWidth) - 2);
    const right = Math.ceil((e.scrollLeft + e.clientWidth) / columnWidth) + 2;
    // Steps of four rows: most frames of a scroll then change nothing.
    const next = { top: top - (top % 4), bottom: bottom + 4 - (bottom % 4), left, right };
    setWin((w) => (w.top === next.top && w.bottom === next.bottom && w.left === next.left && w.right === next.right ? w : next));
    setSize((s) => (s.w === e.clientWidth && s.h === e.clientHeight ? s : { w: e.clientWidth, h: e.clientHeight }));
  }, []);

  useLayoutEffect(() => {
    const e = box.current;
    if (!e) return;
    const o = new ResizeObserver(measure);
    o.observe(e);
    measure();
    return () => o.disconnect();
  }, [measure]);

  const count = columns.length;
  useLayoutEffect(() => {
    if (box.current) box.current.scrollLeft = box.current.scrollWidth; // the newest runs
    measure();
  }, [count, measure]);

  const took = columns.map((c) => secondsBetween(c.run.start_date, c.run.end_date, now) ?? 0);
  const longest = Math.max(...took, 0.001);
  const shownColumns = columns.slice(win.left, win.right);
  const shownRows = rows.slice(win.top, win.bottom);
  const selectedColumn = columns.findIndex((c) => c.run.run_id === selected.run);
  const width = nameWidth + columns.length * columnWidth + 10;
  const labels = useMemo(() => columns.map((c) => formatTime(c.run.run_after, zone)), [columns, zone]);

  const scrollTo = (row: number) => {
    const e = box.current;
    if (!e) return;
    const y = row * rowHeight;
    if (y < e.scrollTop) e.scrollTop = y;
    else if (y + rowHeight > e.scrollTop + e.clientHeight - 80) e.scrollTop = y - e.clientHeight + 100;
  };
  const move = (dr: number, dc: number) => {
    const at = rows.findIndex((r) => r.node.id === selected.task);
    const col = selectedColumn < 0 ? columns.length - 1 : Math.min(Math.max(selectedColumn + dc, 0), columns.length - 1);
    const c = columns[col];
    if (!c) return;
    const row = at < 0 ? (dr > 0 ? 0 : -1) : Math.min(at + dr, rows.length - 1);
    if (row < 0) {
      go(to.run(dag, c.run.run_id));
      return;
    }
    const r = rows[row];
    if (!r) return;
    scrollTo(row);
    go(cellHref(dag, c.run.run_id, r, c));
  };
  useShortcuts([
    { keys: 'Shift+ArrowDown', does: 'Next task', run: () => move(1, 0) },
    { keys: 'Shift+ArrowUp', does: 'Previous task, or the run', run: () => move(-1, 0) },
    { keys: 'Shift+ArrowLeft', does: 'Earlier run', run: () => move(0, -1) },
    { keys: 'Shift+ArrowRight', does: 'Later run', run: () => move(0, 1) },
    {
      keys: 'space', does: 'Open or close the task group',
      run: () => {
        const r = rows.find((x) => x.node.id === selected.task);
        const g = document.activeElement?.closest<HTMLElement>('[data-group]')?.dataset['group'] ?? (r?.node.group ? r.node.id : undefined);
        if (g) onToggle(g);
      },
    },
  ]);

  const hover = (e: React.MouseEvent) => {
    const t = tip.current;
    if (!t) return;
    const el = (e.target as HTMLElement).closest<HTMLElement>('[data-c]');
    if (!el) {
      t.hidden = true;
      return;
    }
    const c = columns[Number(el.dataset['c'])];
    if (!c) return;
    const row = el.dataset['r'] === undefined ? undefined : rows[Number(el.dataset['r'])];
    const state = row ? cellState(row, c) : c.run.state;
    const lines = row ? [row.node.id, `State: ${stateLabel(state)}`] : [`Run ${c.run.run_id}`, `State: ${c.run.state}, ${c.run.run_type}`];
    if (row && !row.node.group && c.mapped[row.node.id]) lines.push(Object.entries(c.mapped[row.node.id] ?? {}).map(([s, n]) => `${n} ${stateLabel(s)}`).join(', '));
    lines.push(formatTime(c.run.run_after, zone));
    if (!row) lines.push('Took ' + (shortDuration(secondsBetween(c.run.start_date, c.run.end_date)) || '–'));
    t.textContent = lines.join('\n');
    t.hidden = false;
    const r = el.getBoundingClientRect();
    t.style.left = Math.min(r.right + 8, window.innerWidth - 260) + 'px';
    t.style.top = Math.min(r.top, window.innerHeight - 90) + 'px';
  };

  const click = (e: React.MouseEvent) => {
    if (e.defaultPrevented) return;
    const a = (e.target as HTMLElement).closest<HTMLElement>('[data-to]');
    if (!a) return;
    const aside = e.button === 1 || e.ctrlKey || e.metaKey || e.shiftKey; // as on a link: another tab
    if (aside && a instanceof HTMLAnchorElement) return;
    if (e.button > 1) return;
    e.preventDefault();
    if (aside) window.open(url(a.dataset['to'] ?? ''), '_blank', 'noopener');
    else go(a.dataset['to'] ?? '');
  };

  const menu = (e: React.MouseEvent) => {
    const el = (e.target as HTMLElement).closest<HTMLElement>('[data-c]');
    const c = el && columns[Number(el.dataset['c'])];
    if (!el || !c) return;
    e.preventDefault();
    const row = el.dataset['r'] === undefined ? undefined : rows[Number(el.dataset['r'])];
    onMenu({ x: e.clientX, y: e.clientY, run: c.run.run_id, task: row?.node.id, group: row?.node.group, state: (row ? cellState(row, c) : c.run.state) ?? null });
  };

  return (
    <>
      <div
        ref={box} className="grid" role="grid" aria-label={`Runs of ${dag}`} aria-rowcount={rows.length + 1} aria-colcount={columns.length + 1} tabIndex={0}
        onScroll={measure} onMouseOver={hover} onMouseLeave={() => { if (tip.current) tip.current.hidden = true; }} onClick={click} onAuxClick={click} onContextMenu={menu}
      >
        <div className="ghead" role="row" aria-rowindex={1} style={{ width }}>
          <div className="corner" role="columnheader" style={{ width: nameWidth }}><span className="visually-hidden">Task</span>{columns.length > 0 && <><span>{shortDuration(longest)}</span><span>{shortDuration(longest / 2)}</span><span>0</span></>}</div>
          {shownColumns.map((c, i) => {
            const at = win.left + i;
            const t = took[at] ?? 0;
            return (
              <div key={c.run.run_id} role="columnheader" aria-colindex={at + 2} className={at === selectedColumn ? 'gbar on' : 'gbar'} style={{ left: nameWidth + at * columnWidth }}>
                <a href={url(to.run(dag, c.run.run_id))} data-to={to.run(dag, c.run.run_id)} data-c={at} data-run={c.run.run_id}>
                  <span className="visually-hidden">{`Run ${labels[at] ?? ''}, ${c.run.state}, ${c.run.run_type}${c.run.note ? ', has a note' : ''}`}</span>
                  <i className={`s-${cssState(c.run.state)}`} style={{ height: 14 + Math.round((54 * t) / longest) }}>{icons[c.run.run_type] && <Icon name={icons[c.run.run_type] ?? ''} />}</i>
                </a>
              </div>
            );
          })}
        </div>
        <div role="rowgroup" style={{ height: rows.length * rowHeight + 12, width, position: 'relative' }}>
          {selectedColumn >= 0 && <div className="gcol" role="presentation" style={{ left: nameWidth + selectedColumn * columnWidth, height: rows.length * rowHeight }} />}
          {shownRows.map((r, i) => (
            <GridRow
              key={r.node.id} dag={dag} row={r} at={win.top + i} width={width} nameWidth={nameWidth} columns={columns} from={win.left} until={win.right}
              selected={r.node.id === selected.task} selectedColumn={r.node.id === selected.task ? selectedColumn : -1} labels={labels} onToggle={onToggle}
            />
          ))}
        </div>
      </div>
      <div ref={tip} className="gtip" hidden style={{ whiteSpace: 'pre-line' }} />
    </>
  );
}

interface RowProps {
  dag: string;
  row: Row;
  at: number;
  width: number;
  nameWidth: number;
  columns: Column[];
  from: number;
  until: number;
  selected: boolean;
  selectedColumn: number;
  labels: string[];
  onToggle: (group: string) => void;
}

const GridRow = memo(function GridRow({ dag, row, at, width, nameWidth, columns, from, until, selected, selectedColumn, labels, onToggle }: RowProps) {
  const n = row.node;
  const cells = [];
  for (let c = from; c < Math.min(until, columns.length); c++) {
    const col = columns[c];
    if (!col) continue;
    const state: TaskState | null | undefined = cellState(row, col);
    if (state === undefined) continue;
    const href = cellHref(dag, col.run.run_id, row, col);
    cells.push(
      <div
        key={col.run.run_id} role="gridcell" aria-colindex={c + 2} className={`gcell s-${cssState(state)}${c === selectedColumn ? ' on' : ''}`} style={{ left: nameWidth + c * columnWidth + 2 }}
        data-to={href} data-c={c} data-r={at} aria-label={`${n.id}, ${labels[c] ?? ''}: ${stateLabel(state)}`}
      />,
    );
  }
  const latest = columns[columns.length - 1];
  const count = n.mapped && !n.group && latest?.mapped[n.id] ? Object.values(latest.mapped[n.id] ?? {}).reduce((a, b) => a + b, 0) : 0;
  const nameTo = n.group ? '' : to.dag(dag, 'tasks/' + encodeURIComponent(n.id));
  return (
    <div className={selected ? 'grow1 on' : 'grow1'} role="row" aria-rowindex={at + 2} style={{ top: at * rowHeight, width }}>
      <div className={n.group ? 'gname group' : 'gname'} role="rowheader" style={{ width: nameWidth, paddingLeft: 6 + n.depth * 12 }} data-group={n.group ? n.id : undefined}>
        {n.group ? (
          <>
            <button type="button" aria-expanded={row.open} aria-label={`${row.open ? 'Close' : 'Open'} group ${n.label}`} onClick={() => onToggle(n.id)}><Icon name={row.open ? 'down' : 'right'} /></button>
            <span className="lbl" title={n.tooltip || n.id}>{n.label}</span>
          </>
        ) : (
          <a href={url(nameTo)} data-to={nameTo} title={`${n.id}${n.operator ? ', ' + n.operator : ''}${n.trigger_rule ? ', ' + n.trigger_rule : ''}`}>
            {n.setup && '↗ '}{n.teardown && '↘ '}{n.label}{n.mapped && <span className="muted"> [{count || ' '}]</span>}
          </a>
        )}
      </div>
      {cells}
    </div>
  );
});
