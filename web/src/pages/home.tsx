import { lazy, Suspense, useState } from 'react';
import { Link, useSearchParams } from 'wouter';
import { query, to } from '../lib/api';
import { useGet } from '../lib/query';
import { useSession } from '../lib/session';
import { runStates } from '../lib/states';
import { ago } from '../lib/time';
import type { DagList, Failure, Home as HomeData } from '../lib/types';
import { Empty, Failed, Loading, Time } from '../ui/base';
import { RunBars } from '../ui/dagbits';
import { Icon } from '../ui/icons';
import { StateBadge, StateDot } from '../ui/state';

const ClearDialog = lazy(() => import('../ui/clear'));

type Part = { status: string | null; [heartbeat: string]: string | null };
type Health = Record<'metadatabase' | 'scheduler' | 'triggerer' | 'dag_processor', Part>;

const parts: [keyof Health, string][] = [['metadatabase', 'Store'], ['scheduler', 'Scheduler'], ['triggerer', 'Triggerer'], ['dag_processor', 'DAG processor']];
const periods: [number, string][] = [[1, 'Last hour'], [24, 'Last 24 hours'], [72, 'Last 3 days'], [168, 'Last 7 days']];

/** Is it well, what runs, and what failed: with the last words and a retry in place. */
export default function Home() {
  const [params, setParams] = useSearchParams();
  const hours = Number(params.get('hours') ?? 24) || 24;
  const home = useGet<HomeData>('ui/home' + query({ hours }), { keep: true, pending: (d) => d.pending });
  const health = useGet<Health>('api/v2/monitor/health', { stale: 10_000, pending: () => true });
  const running = useGet<DagList>('ui/dags' + query({ last_dag_run_state: 'running', limit: 10 }), { pending: (d) => d.dags.length > 0, enabled: (home.data?.running ?? 0) > 0 });
  const [clearing, setClearing] = useState<Failure | null>(null);
  const { has } = useSession();
  const h = home.data;
  const [opened] = useState(Date.now);
  const since = new Date(Math.floor(opened / 60000) * 60000 - hours * 3600_000).toISOString();
  const total = h ? runStates.reduce((n, s) => n + (h.runs[s] ?? 0), 0) : 0;
  return (
    <div className="page">
      <div className="row wrap">
        <h1>Home</h1>
        {health.isError && <span className="pill bad"><Icon name="warn" />the server does not answer</span>}
        {health.data && parts.map(([k, label]) => {
          const s = health.data[k]?.status;
          return <span key={k} className={s === 'healthy' ? 'pill good' : s ? 'pill bad' : 'pill'}>{s === 'healthy' ? '✓' : s ? '✕' : '–'} {label}<span className="visually-hidden">: {s ?? 'not known'}</span></span>;
        })}
        <span className="grow" />
        <select aria-label="Period" value={hours} onChange={(e) => setParams({ hours: e.target.value }, { replace: true })}>{periods.map(([n, l]) => <option key={n} value={n}>{l}</option>)}</select>
      </div>
      {home.isError && <Failed error={home.error} />}
      {home.isPending && <Loading />}
      {h && (
        <>
          <div className="stats">
            <Link href={'/dag_runs' + query({ state: 'failed', run_after_gte: since })} className="card stat"><b style={h.failed_runs ? { color: 'var(--danger)' } : undefined}>{h.failed_runs}</b>failed runs</Link>
            <Link href="/dag_runs?state=running" className="card stat"><b>{h.running}</b>running</Link>
            <Link href="/dag_runs?state=queued" className="card stat"><b>{h.queued}</b>queued</Link>
            <Link href="/import_errors" className="card stat"><b style={h.import_errors ? { color: 'var(--danger)' } : undefined}>{h.import_errors}</b>import errors</Link>
            <Link href="/dags?paused=false" className="card stat"><b>{h.dags.active ?? 0}</b>active of {h.dags.all} Dags</Link>
          </div>
          <section className="card" aria-label="What failed">
            <div className="row" style={{ marginBottom: 6 }}>
              <h2 className="grow">What failed</h2>
              <Link href={'/task_instances' + query({ state: 'failed', start_date_gte: since })}>All failed task instances</Link>
            </div>
            {h.failures.length === 0 ? <Empty>Nothing failed in this time.</Empty> : (
              <div className="scroll" tabIndex={0} role="region" aria-label="Failed tasks">
                <table className="t dense">
                  <thead><tr><th scope="col">Dag</th><th scope="col">Task</th><th scope="col">Ended</th><th scope="col">Last words</th><th scope="col"><span className="visually-hidden">Actions</span></th></tr></thead>
                  <tbody>
                    {h.failures.map((f) => (
                      <tr key={`${f.dag_id}/${f.run_id}/${f.task_id}/${f.map_index}`} data-failure={f.task_id}>
                        <td><span className="row" style={{ gap: 6 }}><StateDot state="failed" /><Link href={to.run(f.dag_id, f.run_id)}>{f.dag_display_name}</Link></span></td>
                        <td>{f.task_id ? <Link href={to.ti(f.dag_id, f.run_id, f.task_id, f.map_index)}>{f.task_id}{f.map_index >= 0 && ` [${f.map_index}]`}</Link> : <span className="muted">the run</span>}{f.more_tasks ? <span className="muted small"> and {f.more_tasks} more</span> : null}</td>
                        <td className="nowrap" title={f.end_date ?? ''}>{ago(f.end_date)}</td>
                        <td className="mono clip" style={{ maxWidth: 460 }} title={f.error}>{f.error}</td>
                        <td className="right"><button type="button" className="btn" onClick={() => setClearing(f)}><Icon name="clear" />Retry</button></td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
            )}
          </section>
          <div className="cols">
            <section className="card stack" aria-label="Runs by state">
              <h2>Runs</h2>
              {runStates.map((s) => (
                <div key={s} className="row"><span style={{ width: 100 }}><Link href={'/dag_runs' + query({ state: s, run_after_gte: since })}><StateBadge state={s} count={h.runs[s] ?? 0} /></Link></span><span className="poolbar grow"><i style={{ width: `${total ? (100 * (h.runs[s] ?? 0)) / total : 0}%`, background: `var(--s-${s})` }} /></span></div>
              ))}
              {h.truncated && <p className="small muted">Of DAGs with very many runs only the newest are counted.</p>}
            </section>
            <section className="card stack" aria-label="Pools">
              <h2>{has('pools') ? <Link href="/pools">Pools</Link> : 'Pools'}</h2>
              {h.pools.map((p) => (
                <div key={p.name} className="row"><span className="clip" style={{ width: 130 }}>{p.name}</span><span className="poolbar grow" role="img" aria-label={`${p.occupied_slots} of ${p.slots < 0 ? 'unlimited' : p.slots} slots taken`}><i style={{ width: `${p.slots > 0 ? (100 * p.occupied_slots) / p.slots : 0}%`, background: 'var(--s-running)' }} /></span><span className="small nowrap">{p.occupied_slots} of {p.slots < 0 ? '∞' : p.slots}</span></div>
              ))}
            </section>
            {h.running > 0 && running.data && running.data.dags.length > 0 && (
              <section className="card stack" aria-label="Running now">
                <h2>Running now</h2>
                {running.data.dags.map((d) => <div key={d.dag_id} className="row"><Link href={to.run(d.dag_id, d.recent_runs[0]?.run_id ?? '')} className="grow clip">{d.dag_display_name}</Link><RunBars dag={d.dag_id} runs={d.recent_runs.slice(0, 8)} /><span className="small muted"><Time t={d.recent_runs[0]?.start_date} relative /></span></div>)}
              </section>
            )}
          </div>
        </>
      )}
      <Suspense fallback={null}>{clearing && <ClearDialog dag={clearing.dag_id} run={clearing.run_id} task={clearing.task_id || undefined} map={clearing.map_index} onClose={() => setClearing(null)} />}</Suspense>
    </div>
  );
}
