import { useState } from 'react';
import { Link } from 'wouter';
import { put, to } from '../lib/api';
import { useGet, useRefresh } from '../lib/query';
import type { Backfill, DagRun } from '../lib/types';
import { Time, toast, toastError } from './base';

/** Tells of a backfill under way, with its progress, on every view of the DAG. */
export function BackfillBanner({ backfill: b }: { backfill: Backfill }) {
  const refresh = useRefresh();
  const [busy, setBusy] = useState(false);
  const runs = useGet<{ dag_runs: DagRun[]; total_entries: number }>(`api/v2/dags/${encodeURIComponent(b.dag_id)}/dagRuns?run_type=backfill&logical_date_gte=${encodeURIComponent(b.from_date)}&logical_date_lte=${encodeURIComponent(b.to_date)}&limit=100`, { pending: () => true });
  const all = runs.data?.dag_runs ?? [];
  const done = all.filter((r) => r.state === 'success' || r.state === 'failed').length;
  const act = (what: 'pause' | 'unpause' | 'cancel', word: string) => {
    setBusy(true);
    put(`api/v2/backfills/${b.id}/${what}`).then(() => { toast(`Backfill ${word}.`); return refresh(); }, toastError).finally(() => setBusy(false));
  };
  return (
    <div className="notice row wrap" role="status" style={{ borderRadius: 0 }}>
      <b>Backfill {b.is_paused ? 'paused' : 'under way'}</b>
      <span><Time t={b.from_date} /> – <Time t={b.to_date} /></span>
      {all.length > 0 && <><progress max={all.length} value={done} aria-label="Finished runs" /><span>{done} of {all.length} runs</span></>}
      <Link href={to.dag(b.dag_id, 'runs') + '?run_type=backfill'}>Its runs</Link>
      <span className="grow" />
      {b.is_paused ? <button type="button" className="btn" disabled={busy} onClick={() => act('unpause', 'goes on')}>Go on</button> : <button type="button" className="btn" disabled={busy} onClick={() => act('pause', 'paused')}>Pause</button>}
      <button type="button" className="btn danger" disabled={busy} onClick={() => act('cancel', 'cancelled')}>Cancel</button>
    </div>
  );
}
