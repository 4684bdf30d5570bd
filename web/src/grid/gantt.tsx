import { useRef, useState } from 'react';
import { useLocation } from 'wouter';
import { to, url } from '../lib/api';
import { useGet, useNow } from '../lib/query';
import { cssState, stateLabel } from '../lib/states';
import { formatTime, shortDuration } from '../lib/time';
import type { Instance, Instances } from '../lib/types';
import { Empty, Failed, Loading, useZone } from '../ui/base';
import { Icon } from '../ui/icons';
import type { Row } from './data';

const rowHeight = 22;

/** Bars per task along a run: queued part pale, then the time it ran. Only rows in sight are drawn. */
export default function Gantt({ dag, run, rows, selected, onToggle }: { dag: string; run: string; rows: Row[]; selected: string | undefined; onToggle: (g: string) => void }) {
  const list = useGet<Instances>(`ui/dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(run)}/instances`, { pending: (d) => d.pending });
  const now = useNow(list.data?.pending ?? false);
  const zone = useZone();
  const [, go] = useLocation();
  const [top, setTop] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  if (list.isError) return <Failed error={list.error} />;
  if (!list.data) return <Loading />;
  const byTask = new Map<string, Instance[]>();
  let from = Infinity;
  let until = -Infinity;
  for (const i of list.data.instances) {
    if (!i.start_date) continue;
    byTask.set(i.task_id, [...(byTask.get(i.task_id) ?? []), i]);
    from = Math.min(from, Date.parse(i.queued_when && i.queued_when < i.start_date ? i.queued_when : i.start_date));
    until = Math.max(until, i.end_date ? Date.parse(i.end_date) : now);
  }
  if (!Number.isFinite(from)) return <Empty>Nothing has started yet.</Empty>;
  const span = Math.max(until - from, 1);
  const left = (ms: number) => `${(100 * (ms - from)) / span}%`;
  const wide = (ms: number) => `${Math.max(0.4, (100 * ms) / span)}%`;
  const first = Math.max(0, Math.floor(top / rowHeight) - 10);
  const shown = rows.slice(first, first + 80);
  return (
    <div ref={box} className="scroll" style={{ flex: 1, position: 'relative' }} tabIndex={0} role="region" aria-label={`Gantt chart of ${run}`} onScroll={(e) => setTop(e.currentTarget.scrollTop)}>
      <div className="row small muted" style={{ justifyContent: 'space-between', paddingLeft: '38%', position: 'sticky', top: 0, background: 'var(--bg)', zIndex: 2, height: 22 }}><span>{formatTime(new Date(from), zone).slice(11)}</span><span>{shortDuration(span / 2000)}</span><span>{formatTime(new Date(until), zone).slice(11)}</span></div>
      <div style={{ position: 'relative', height: rows.length * rowHeight }}>
        {shown.map((r, k) => {
          const list = r.node.group ? [] : (byTask.get(r.node.id) ?? []);
          return (
            <div key={r.node.id} style={{ position: 'absolute', top: (first + k) * rowHeight, left: 0, right: 0, height: rowHeight, display: 'flex', borderBottom: '1px solid var(--bg-3)', background: r.node.id === selected ? 'var(--sel)' : undefined }}>
              <div className="row clip" style={{ width: '38%', gap: 3, paddingLeft: 6 + r.node.depth * 12, fontSize: 12.5 }}>
                {r.node.group ? <button type="button" className="btn icon" style={{ minHeight: 0, padding: 0 }} aria-expanded={r.open} onClick={() => onToggle(r.node.id)}><Icon name={r.open ? 'down' : 'right'} /><b>{r.node.label}</b></button> : <span className="clip">{r.node.label}</span>}
              </div>
              <div style={{ position: 'relative', flex: 1 }}>
                {list.slice(0, 200).map((i) => {
                  const start = Date.parse(i.start_date ?? '');
                  const end = i.end_date ? Date.parse(i.end_date) : now;
                  const queued = i.queued_when ? Math.min(Date.parse(i.queued_when), start) : start;
                  const href = to.ti(dag, run, i.task_id, i.map_index);
                  const text = `${i.task_id}${i.map_index >= 0 ? ` [${i.map_index}]` : ''}: ${stateLabel(i.state)}, ${shortDuration((end - start) / 1000)}, queued ${shortDuration((start - queued) / 1000)}`;
                  return (
                    <a key={i.map_index} href={url(href)} title={text} aria-label={text} onClick={(e) => { if (e.ctrlKey || e.metaKey) return; e.preventDefault(); go(href); }}>
                      {start > queued && <i style={{ position: 'absolute', top: 7, height: 8, left: left(queued), width: wide(start - queued), background: 'var(--s-queued)', opacity: 0.35 }} />}
                      <i className={`s-${cssState(i.state)}`} style={{ position: 'absolute', top: 4, height: 14, borderRadius: 3, left: left(start), width: wide(end - start), minWidth: 3 }} />
                    </a>
                  );
                })}
              </div>
            </div>
          );
        })}
      </div>
    </div>
  );
}
