import { useEffect, useMemo, useRef, useState } from 'react';
import { useLocation } from 'wouter';
import { to, url } from '../lib/api';
import { usePref } from '../lib/prefs';
import { combined, cssState, stateLabel, stateOfLetter } from '../lib/states';
import type { Node, TaskState } from '../lib/types';
import { Icon } from '../ui/icons';
import type { Column } from './data';
import { place } from './layout';

interface Props {
  dag: string;
  nodes: Node[];
  column: Column | undefined;
  run: string | undefined;
  selected: string | undefined;
}

/** With more tasks than this, groups start closed. */
const openUpTo = 120;

/** The DAG as layers of boxes, with the states of a run. Drag to move, wheel to zoom. */
export default function Graph({ dag, nodes, column, run, selected }: Props) {
  const [, go] = useLocation();
  const [direction, setDirection] = usePref('graphdirection', 'LR');
  const [closed, setClosed] = useState<ReadonlySet<string>>(() => new Set(nodes.length > openUpTo ? nodes.filter((n) => n.group).map((n) => n.id) : []));
  const picture = useMemo(() => place(nodes, closed, direction === 'TB' ? 'TB' : 'LR'), [nodes, closed, direction]);
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState<{ x: number; y: number; k: number } | null>(null);
  const positions = useMemo(() => {
    const p = new Map<number, number>();
    nodes.forEach((n, i) => { if (!n.group) p.set(i, p.size); });
    return p;
  }, [nodes]);
  const stateAt = (i: number): TaskState | null | undefined => {
    if (!column) return undefined;
    const n = nodes[i];
    if (!n?.group) return stateOfLetter(column.cells[positions.get(i) ?? -1]);
    const below = (j: number): boolean => { for (let p = nodes[j]?.parent ?? -1; p >= 0; p = nodes[p]?.parent ?? -1) if (p === i) return true; return false; };
    return combined(nodes.flatMap((m, j) => (!m.group && below(j) ? [stateOfLetter(column.cells[positions.get(j) ?? -1])] : [])));
  };
  const fit = () => {
    const e = box.current;
    if (!e) return;
    const k = Math.min(1, Math.max(0.15, Math.min(e.clientWidth / picture.width, e.clientHeight / picture.height)));
    setView({ k, x: Math.max(0, (e.clientWidth - picture.width * k) / 2), y: Math.max(0, (e.clientHeight - picture.height * k) / 2) });
  };
  useEffect(fit, [picture]);
  const zoom = (f: number, cx?: number, cy?: number) =>
    setView((v) => {
      const e = box.current;
      if (!v || !e) return v;
      const k = Math.min(2.5, Math.max(0.08, v.k * f));
      const x = cx ?? e.clientWidth / 2;
      const y = cy ?? e.clientHeight / 2;
      return { k, x: x - ((x - v.x) * k) / v.k, y: y - ((y - v.y) * k) / v.k };
    });
  useEffect(() => {
    const e = box.current;
    if (!e) return;
    const wheel = (w: WheelEvent) => {
      w.preventDefault();
      const r = e.getBoundingClientRect();
      zoom(Math.exp(-w.deltaY / 400), w.clientX - r.left, w.clientY - r.top);
    };
    e.addEventListener('wheel', wheel, { passive: false });
    return () => e.removeEventListener('wheel', wheel);
  }, []);
  const drag = (e: React.PointerEvent) => {
    if ((e.target as Element).closest('a, button') || !view) return;
    const start = { x: e.clientX - view.x, y: e.clientY - view.y };
    const el = e.currentTarget;
    el.setPointerCapture(e.pointerId);
    const move = (m: Event) => setView((v) => v && { ...v, x: (m as PointerEvent).clientX - start.x, y: (m as PointerEvent).clientY - start.y });
    const up = () => { el.removeEventListener('pointermove', move); el.removeEventListener('pointerup', up); };
    el.addEventListener('pointermove', move);
    el.addEventListener('pointerup', up);
  };
  const v = view ?? { x: 0, y: 0, k: 1 };
  const path = (p: { x: number; y: number }[]) => {
    if (p.length < 2) return '';
    const [first, ...rest] = p;
    let d = `M${first?.x},${first?.y}`;
    for (let i = 0; i + 1 < rest.length; i++) {
      const a = rest[i];
      const b = rest[i + 1];
      if (a && b) d += i + 2 === rest.length ? `Q${a.x},${a.y} ${b.x},${b.y}` : `Q${a.x},${a.y} ${(a.x + b.x) / 2},${(a.y + b.y) / 2}`;
    }
    return d;
  };
  const toggle = (id: string) => { const n = new Set(closed); if (!n.delete(id)) n.add(id); setClosed(n); };
  return (
    <div className="graph" ref={box} onPointerDown={drag} role="group" aria-label={`Graph of ${dag}`}>
      <svg>
        <g transform={`translate(${v.x} ${v.y}) scale(${v.k})`}>
          {picture.boxes.filter((b) => b.open).map((b) => (
            <g key={b.id}>
              <rect x={b.x - b.w / 2} y={b.y - b.h / 2} width={b.w} height={b.h} rx="8" fill="var(--bg)" fillOpacity="0.6" stroke="var(--line)" />
              <g role="button" tabIndex={0} aria-expanded="true" aria-label={`Close group ${nodes[b.index]?.label ?? ''}`} style={{ cursor: 'pointer' }} onClick={() => toggle(b.id)} onKeyDown={(e) => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); toggle(b.id); } }}>
                <text x={b.x - b.w / 2 + 8} y={b.y - b.h / 2 + 14} fontSize="12" fontWeight="600" fill="var(--fg-2)">▾ {nodes[b.index]?.label}</text>
              </g>
            </g>
          ))}
          {picture.edges.map((e) => <path key={e.from + '\u0000' + e.to} d={path(e.points)} fill="none" stroke={selected && (e.from === selected || e.to === selected) ? 'var(--focus)' : 'var(--fg-2)'} strokeWidth={selected && (e.from === selected || e.to === selected) ? 2 : 1.2} opacity="0.8" />)}
          {picture.boxes.filter((b) => !b.open).map((b) => {
            const n = nodes[b.index];
            if (!n) return null;
            const state = stateAt(b.index);
            const colour = column ? (state === undefined ? 'var(--line)' : `var(--s-${cssState(state)})`) : 'var(--line)';
            const href = n.group ? '' : run ? to.ti(dag, run, n.id) + (n.mapped && column?.mapped[n.id] ? '/mapped' : '') : to.dag(dag, 'tasks/' + encodeURIComponent(n.id));
            const chars = Math.floor((b.w - 22) / 7.4);
            const inner = (
              <>
                <rect x={b.x - b.w / 2} y={b.y - b.h / 2} width={b.w} height={b.h} rx="6" fill="var(--bg)" stroke={n.id === selected ? 'var(--focus)' : colour} strokeWidth={n.id === selected ? 4 : 2} strokeDasharray={n.group ? '5 3' : undefined} />
                {n.mapped && <rect x={b.x - b.w / 2 + 4} y={b.y - b.h / 2 - 4} width={b.w} height={b.h} rx="6" fill="none" stroke={colour} />}
                <rect x={b.x - b.w / 2} y={b.y - b.h / 2} width="6" height={b.h} rx="3" fill={colour} />
                <text x={b.x - b.w / 2 + 14} y={b.y - 8} fontSize="13" fontWeight="600" fill="var(--fg)">{n.label.length > chars ? n.label.slice(0, chars - 1) + '…' : n.label}</text>
                <text x={b.x - b.w / 2 + 14} y={b.y + 9} fontSize="11" fill="var(--fg-2)">{n.group ? 'group, click to open' : n.operator}</text>
                {column && <text x={b.x - b.w / 2 + 14} y={b.y + 22} fontSize="10.500" fill="var(--fg)">{state === undefined ? '' : stateLabel(state)}{n.mapped && column.mapped[n.id] ? ` (${Object.values(column.mapped[n.id] ?? {}).reduce((a, c) => a + c, 0)})` : ''}</text>}
              </>
            );
            const label = `${n.id}${n.operator ? ', ' + n.operator : ''}${column ? ', ' + stateLabel(state) : ''}`;
            return n.group ? (
              <g key={b.id} role="button" tabIndex={0} aria-expanded="false" aria-label={`Open group ${label}`} style={{ cursor: 'pointer' }} onClick={() => toggle(n.id)} onKeyDown={(e) => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); toggle(n.id); } }}>{inner}</g>
            ) : (
              <a key={b.id} href={url(href)} aria-label={label} data-task={n.id} onClick={(e) => { if (e.ctrlKey || e.metaKey) return; e.preventDefault(); go(href); }}>{inner}</a>
            );
          })}
        </g>
      </svg>
      <div className="zoom">
        <button type="button" className="btn icon" style={{ background: 'var(--bg)' }} aria-label="Zoom in" onClick={() => zoom(1.25)}><Icon name="plus" /></button>
        <button type="button" className="btn icon" style={{ background: 'var(--bg)' }} aria-label="Zoom out" onClick={() => zoom(0.8)}>−</button>
        <button type="button" className="btn icon" style={{ background: 'var(--bg)' }} aria-label="Fit into view" onClick={fit}><Icon name="full" /></button>
        <button type="button" className="btn icon" style={{ background: 'var(--bg)' }} aria-label="Turn the direction" onClick={() => setDirection(direction === 'TB' ? 'LR' : 'TB')}><Icon name="clear" /></button>
      </div>
    </div>
  );
}
