import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useLocation } from 'wouter';
import { api, patch, post, to } from '../lib/api';
import { useRefresh } from '../lib/query';
import type { DagDetails } from '../lib/types';
import { Dialog, Failed, Time, toast } from './base';

const behaviours: [string, string][] = [['none', 'Missing runs'], ['failed', 'Missing and failed runs'], ['completed', 'All runs']];

/** Starts a backfill, after showing which dates it will run. */
export default function BackfillDialog({ dag, onClose }: { dag: DagDetails; onClose: () => void }) {
  const [, go] = useLocation();
  const refresh = useRefresh();
  const [from, setFrom] = useState('');
  const [until, setUntil] = useState('');
  const [behaviour, setBehaviour] = useState('none');
  const [max, setMax] = useState(10);
  const [backwards, setBackwards] = useState(false);
  const [latest, setLatest] = useState(true);
  const [unpause, setUnpause] = useState(false);
  const [conf, setConf] = useState('');
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const iso = (s: string, end: boolean) => (s.length === 10 ? s + (end ? 'T23:59:59Z' : 'T00:00:00Z') : s + ':00Z');
  const body = { dag_id: dag.dag_id, from_date: from && iso(from, false), to_date: until && iso(until, true), reprocess_behavior: behaviour, max_active_runs: max, run_backwards: backwards, run_on_latest_version: latest };
  const dry = useQuery<{ backfills: { logical_date: string | null }[]; total_entries: number }>({ queryKey: ['backfill', body], queryFn: () => post('api/v2/backfills/dry_run', body), enabled: from !== '' && until !== '', retry: false });
  const dates = dry.data?.backfills ?? [];
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      let dag_run_conf: unknown = {};
      if (conf.trim()) {
        try {
          dag_run_conf = JSON.parse(conf);
        } catch {
          throw new Error('The configuration is not valid JSON.');
        }
      }
      if (dag.is_paused && unpause) await patch(api.dag(dag.dag_id) + '?update_mask=is_paused', { is_paused: false });
      await post('api/v2/backfills', { ...body, dag_run_conf });
      toast(`Backfill of ${dates.length} runs started.`);
      await refresh();
      onClose();
      go(to.dag(dag.dag_id, 'backfills'));
    } catch (e) {
      setBusy(false);
      setError(e);
    }
  };
  return (
    <Dialog title={`Backfill ${dag.dag_display_name}`} onClose={onClose} onSubmit={() => void submit()} footer={<><button type="button" className="btn" onClick={onClose}>Cancel</button><button className="btn primary" disabled={busy || dates.length === 0}>Run {dates.length || ''} backfill {dates.length === 1 ? 'run' : 'runs'}</button></>}>
      {error !== null && <Failed error={error} />}
      <div className="row wrap">
        <label className="field"><span>From (UTC)</span><input type="date" required value={from} onChange={(e) => setFrom(e.target.value)} /></label>
        <label className="field"><span>To (UTC)</span><input type="date" required value={until} onChange={(e) => setUntil(e.target.value)} /></label>
        <label className="field"><span>Max active runs</span><input type="number" min={1} value={max} onChange={(e) => setMax(Number(e.target.value))} style={{ width: 90 }} /></label>
      </div>
      <fieldset className="checks" style={{ border: 0, padding: 0, margin: 0 }}><legend className="visually-hidden">Which runs</legend>{behaviours.map(([v, l]) => <label key={v}><input type="radio" name="behaviour" checked={behaviour === v} onChange={() => setBehaviour(v)} />{l}</label>)}</fieldset>
      <div className="checks">
        <label><input type="checkbox" checked={backwards} onChange={(e) => setBackwards(e.target.checked)} />Latest dates first</label>
        <label><input type="checkbox" checked={latest} onChange={(e) => setLatest(e.target.checked)} />Run on the latest version</label>
        {dag.is_paused && <label><input type="checkbox" checked={unpause} onChange={(e) => setUnpause(e.target.checked)} />Unpause the DAG</label>}
      </div>
      <details><summary>Configuration</summary><textarea className="mono" rows={4} aria-label="Configuration (JSON)" placeholder="{}" value={conf} onChange={(e) => setConf(e.target.value)} /></details>
      {dry.isError && <Failed error={dry.error} />}
      {dry.isSuccess && (
        <section aria-label="Dates">
          <b role="status">{dates.length === 0 ? 'No run would be made.' : `${dates.length} ${dates.length === 1 ? 'run' : 'runs'}`}</b>
          <ul className="scroll mono" style={{ maxHeight: 180, margin: '4px 0 0', paddingLeft: 20, columns: '180px' }}>{dates.slice(0, 300).map((x, i) => <li key={i}><Time t={x.logical_date} /></li>)}</ul>
          {dates.length > 300 && <p className="muted">and {dates.length - 300} more</p>}
        </section>
      )}
      <p className="muted small">Scheduled runs go before backfill runs.</p>
    </Dialog>
  );
}
