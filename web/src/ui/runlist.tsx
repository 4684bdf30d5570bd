import { lazy, Suspense, useState } from 'react';
import { Link } from 'wouter';
import { api, del, patch, post, query, to } from '../lib/api';
import { useGet, useRefresh } from '../lib/query';
import { runStates, stateLabel } from '../lib/states';
import { shortDuration } from '../lib/time';
import type { DagRun } from '../lib/types';
import { Pager, SearchField, useFilters } from '../pages/dags';
import { Confirm, Empty, Failed, Loading, Time, toast, toastError } from './base';
import { Icon } from './icons';
import { StateBadge } from './state';

const ClearDialog = lazy(() => import('./clear'));
const MarkDialog = lazy(() => import('./mark'));
const pageSize = 50;
const types = ['scheduled', 'manual', 'backfill', 'asset_triggered', 'asset_materialization'];

interface List {
  dag_runs: DagRun[];
  total_entries: number;
  total_entries_limit?: number | null;
}

/** Periods that filters of lists offer. */
export function Since({ value, onChange }: { value: string; onChange: (v: string | null) => void }) {
  const iso = (hours: number) => new Date(Math.floor(Date.now() / 60000) * 60000 - hours * 3600_000).toISOString();
  return (
    <select aria-label="Since" value={value ? 'set' : ''} onChange={(e) => onChange(e.target.value === 'set' ? value : e.target.value ? iso(Number(e.target.value)) : null)}>
      <option value="">Any time</option>
      {value && <option value="set">since {value.slice(0, 16).replace('T', ' ')}</option>}
      <option value="1">last hour</option><option value="24">last 24 hours</option><option value="168">last 7 days</option><option value="720">last 30 days</option>
    </select>
  );
}

/** Runs of a DAG, or of all with dag = "~". */
export default function RunList({ dag }: { dag: string }) {
  const [params, set] = useFilters();
  const refresh = useRefresh();
  const [chosen, setChosen] = useState<ReadonlyMap<string, DagRun>>(new Map());
  const [one, setOne] = useState<{ run: DagRun; kind: 'clear' | 'success' | 'failed' } | null>(null);
  const [bulk, setBulk] = useState<'clear' | 'success' | 'failed' | 'delete' | null>(null);
  const order = params.get('sort') ?? '-run_after';
  const offset = Number(params.get('offset') ?? 0) || 0;
  const filter = {
    state: params.getAll('state'), run_type: params.getAll('run_type'), run_id_pattern: params.get('run_id_pattern'), dag_id_pattern: params.get('dag_id_pattern'), run_after_gte: params.get('run_after_gte'), run_after_lte: params.get('run_after_lte'),
    triggering_user_name_pattern: params.get('triggering_user_name_pattern'), conf_contains: params.get('conf_contains'),
  };
  const list = useGet<List>(api.dag(dag) + '/dagRuns' + query({ ...filter, order_by: order, limit: pageSize, offset }), { keep: true, pending: (d) => d.dag_runs.some((r) => r.state === 'running' || r.state === 'queued') });
  const rows = list.data?.dag_runs ?? [];
  const key = (r: DagRun) => `${r.dag_id}/${r.dag_run_id}`;
  const head = (k: string, label: string) => <th scope="col" aria-sort={order === k ? 'ascending' : order === '-' + k ? 'descending' : 'none'}><button type="button" onClick={() => set({ sort: order === '-' + k ? k : '-' + k })}>{label}{order === k ? ' ↑' : order === '-' + k ? ' ↓' : ''}</button></th>;
  const apply = async () => {
    const failed: string[] = [];
    for (const r of chosen.values()) {
      try {
        if (bulk === 'clear') await post(api.run(r.dag_id, r.dag_run_id) + '/clear', { dry_run: false });
        else if (bulk === 'delete') await del(api.run(r.dag_id, r.dag_run_id));
        else await patch(api.run(r.dag_id, r.dag_run_id), { state: bulk });
      } catch (e) {
        failed.push(`${r.dag_run_id}: ${e instanceof Error ? e.message : String(e)}`);
      }
    }
    if (failed.length) toastError(new Error(failed.join(' ')));
    else toast(`Done for ${chosen.size} runs.`);
    setChosen(new Map());
    await refresh();
  };
  return (
    <div className="stack">
      <div className="filters" role="search">
        <SearchField label="Search run ids" value={params.get('run_id_pattern') ?? ''} onChange={(v) => set({ run_id_pattern: v || null })} />
        {dag === '~' && <input type="search" style={{ maxWidth: 180 }} aria-label="DAG id" placeholder="DAG id" defaultValue={params.get('dag_id_pattern') ?? ''} onBlur={(e) => set({ dag_id_pattern: e.target.value || null })} onKeyDown={(e) => { if (e.key === 'Enter') set({ dag_id_pattern: e.currentTarget.value || null }); }} />}
        <select aria-label="State" value={params.get('state') ?? ''} onChange={(e) => set({ state: e.target.value || null })}><option value="">Any state</option>{runStates.map((s) => <option key={s} value={s}>{stateLabel(s)}</option>)}</select>
        <select aria-label="Run type" value={params.get('run_type') ?? ''} onChange={(e) => set({ run_type: e.target.value || null })}><option value="">Any type</option>{types.map((t) => <option key={t} value={t}>{stateLabel(t)}</option>)}</select>
        <Since value={params.get('run_after_gte') ?? ''} onChange={(v) => set({ run_after_gte: v })} />
        {list.data && <span role="status">{list.data.total_entries}{list.data.total_entries_limit && list.data.total_entries >= list.data.total_entries_limit ? ' or more' : ''} runs</span>}
      </div>
      {list.isError && <Failed error={list.error} />}
      {list.isPending && <Loading />}
      {list.data && rows.length === 0 && <Empty>No runs{params.size > 0 ? ' match these filters' : ' yet'}.</Empty>}
      {rows.length > 0 && (
        <div className="scroll" tabIndex={0} role="region" aria-label="Dag runs">
          <table className="t dense">
            <thead>
              <tr>
                <th scope="col"><input type="checkbox" aria-label="Choose all" checked={rows.every((r) => chosen.has(key(r)))} onChange={(e) => setChosen(e.target.checked ? new Map(rows.map((r) => [key(r), r])) : new Map())} /></th>
                {dag === '~' && <th scope="col">Dag</th>}{head('run_after', 'Run after')}<th scope="col">State</th><th scope="col">Type</th><th scope="col" className="hide-narrow">User</th>{head('start_date', 'Start')}{head('duration', 'Duration')}<th scope="col" className="hide-narrow">Conf</th><th scope="col"><span className="visually-hidden">Actions</span></th>
              </tr>
            </thead>
            <tbody>
              {rows.map((r) => (
                <tr key={key(r)} data-run={r.dag_run_id}>
                  <td><input type="checkbox" aria-label={`Choose ${r.dag_run_id}`} checked={chosen.has(key(r))} onChange={() => { const n = new Map(chosen); if (!n.delete(key(r))) n.set(key(r), r); setChosen(n); }} /></td>
                  {dag === '~' && <td><Link href={to.dag(r.dag_id)}>{r.dag_display_name}</Link></td>}
                  <td><Link href={to.run(r.dag_id, r.dag_run_id)} title={r.dag_run_id}><Time t={r.run_after} /></Link>{r.note && <span title={r.note}> ✎</span>}</td>
                  <td><StateBadge state={r.state} /></td><td>{r.run_type}</td><td className="hide-narrow">{r.triggering_user_name}</td><td><Time t={r.start_date} /></td><td className="nowrap">{shortDuration(r.duration)}</td>
                  <td className="mono clip hide-narrow" style={{ maxWidth: 180 }} title={JSON.stringify(r.conf)}>{r.conf && Object.keys(r.conf).length > 0 ? JSON.stringify(r.conf) : ''}</td>
                  <td className="nowrap right">
                    <button type="button" className="btn icon" aria-label={`Clear ${r.dag_run_id}`} title="Clear" onClick={() => setOne({ run: r, kind: 'clear' })}><Icon name="clear" /></button>
                    <button type="button" className="btn icon" aria-label={`Mark ${r.dag_run_id} success`} title="Mark success" onClick={() => setOne({ run: r, kind: 'success' })}><Icon name="check" /></button>
                    <button type="button" className="btn icon" aria-label={`Mark ${r.dag_run_id} failed`} title="Mark failed" onClick={() => setOne({ run: r, kind: 'failed' })}><Icon name="cross" /></button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {list.data && <Pager offset={offset} limit={pageSize} total={list.data.total_entries} onGo={(o) => set({ offset: o ? String(o) : null })} />}
      {chosen.size > 0 && (
        <div className="bulk" role="toolbar" aria-label="With the chosen">
          <b>{chosen.size} chosen</b>
          <button type="button" className="btn" onClick={() => setBulk('clear')}><Icon name="clear" />Clear…</button>
          <button type="button" className="btn" onClick={() => setBulk('success')}><Icon name="check" />Mark success…</button>
          <button type="button" className="btn" onClick={() => setBulk('failed')}><Icon name="cross" />Mark failed…</button>
          <button type="button" className="btn danger" onClick={() => setBulk('delete')}><Icon name="trash" />Delete…</button>
        </div>
      )}
      <Suspense fallback={null}>
        {one?.kind === 'clear' && <ClearDialog dag={one.run.dag_id} run={one.run.dag_run_id} onClose={() => setOne(null)} />}
        {one && one.kind !== 'clear' && <MarkDialog dag={one.run.dag_id} run={one.run.dag_run_id} state={one.kind} onClose={() => setOne(null)} />}
      </Suspense>
      {bulk && (
        <Confirm title={`${bulk === 'clear' ? 'Clear' : bulk === 'delete' ? 'Delete' : `Mark as ${bulk}`}: ${chosen.size} runs`} action={bulk === 'delete' ? 'Delete' : 'Do it'} danger={bulk === 'delete'} onClose={() => setBulk(null)} onConfirm={apply}>
          <ul style={{ margin: 0, paddingLeft: 18 }}>{[...chosen.values()].slice(0, 30).map((r) => <li key={key(r)}>{r.dag_id}, {r.dag_run_id} <StateBadge state={r.state} /></li>)}</ul>
        </Confirm>
      )}
    </div>
  );
}
