import { useState } from 'react';
import { Link } from 'wouter';
import { query, to } from '../lib/api';
import { useGet } from '../lib/query';
import type { EventLog } from '../lib/types';
import { Empty, Failed, Loading, Time } from './base';

const pageSize = 50;

/** The audit log, of everything or of what the filter names. */
export default function Events({ filter }: { filter: Record<string, string | undefined> }) {
  const [offset, setOffset] = useState(0);
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const list = useGet<{ event_logs: EventLog[]; total_entries: number }>('api/v2/eventLogs' + query({ ...filter, order_by: '-when', limit: pageSize, offset }), { keep: true });
  if (list.isError) return <Failed error={list.error} />;
  if (!list.data) return <Loading />;
  const rows = list.data.event_logs;
  if (!rows.length) return <Empty>Nothing in the audit log.</Empty>;
  const all = open.has('*');
  return (
    <div className="stack">
      <div className="row"><span className="grow" role="status">{list.data.total_entries} {list.data.total_entries === 1 ? 'event' : 'events'}</span><button type="button" className="btn" aria-pressed={all} onClick={() => setOpen(all ? new Set() : new Set(['*']))}>{all ? 'Fold' : 'Unfold'} details</button></div>
      <div className="scroll" tabIndex={0} role="region" aria-label="Audit log">
        <table className="t">
          <thead><tr><th scope="col">When</th><th scope="col">What</th><th scope="col">Who</th><th scope="col">Of</th><th scope="col">Details</th></tr></thead>
          <tbody>
            {rows.map((e) => {
              const key = String(e.event_log_id);
              const shown = all || open.has(key);
              return (
                <tr key={key}>
                  <td><Time t={e.when} /></td>
                  <td>{e.event}</td>
                  <td>{e.owner}</td>
                  <td>{e.dag_id && (e.run_id ? (e.task_id ? <Link href={to.ti(e.dag_id, e.run_id, e.task_id, e.map_index ?? -1)}>{e.dag_id} / {e.run_id} / {e.task_id}</Link> : <Link href={to.run(e.dag_id, e.run_id)}>{e.dag_id} / {e.run_id}</Link>) : <Link href={to.dag(e.dag_id)}>{e.dag_id}</Link>)}</td>
                  <td>{e.extra && e.extra !== '{}' && (shown ? <pre>{e.extra}</pre> : <button type="button" className="btn icon" style={{ minHeight: 0 }} onClick={() => setOpen(new Set([...open, key]))}><span className="mono clip" style={{ maxWidth: 260 }}>{e.extra.slice(0, 60)}</span></button>)}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      <div className="row"><button type="button" className="btn" disabled={offset === 0} onClick={() => setOffset(Math.max(0, offset - pageSize))}>Newer</button><button type="button" className="btn" disabled={rows.length < pageSize} onClick={() => setOffset(offset + pageSize)}>Older</button></div>
    </div>
  );
}
