import { lazy, Suspense, useMemo, useState } from 'react';
import { Link, useLocation } from 'wouter';
import { api, call, del, query, to } from '../lib/api';
import { useGet, useNow, useRefresh } from '../lib/query';
import { useSession } from '../lib/session';
import { cssState, stateOfLetter } from '../lib/states';
import { ago, formatTime, secondsBetween, shortDuration } from '../lib/time';
import type { Backfill, DagDetails, Node, Task } from '../lib/types';
import type { GridStates } from '../grid/data';
import { Confirm, Empty, Facts, Failed, KeyValues, Loading, Menu, SafeLink, show, Tabs, Time, toast, toastError, useZone } from '../ui/base';
import { Icon } from '../ui/icons';
import { StateBadge, StateDot } from '../ui/state';

const Events = lazy(() => import('../ui/eventlist'));
const Code = lazy(() => import('../ui/code'));
const RunList = lazy(() => import('../ui/runlist'));
const TaskInstanceList = lazy(() => import('../ui/tilist'));
const Calendar = lazy(() => import('../ui/calendar'));
const BackfillDialog = lazy(() => import('../ui/backfill'));

interface Props {
  dag: DagDetails;
  tab: string;
  task?: string | undefined;
  states: GridStates | undefined;
  nodes: Node[] | undefined;
}

/** The right pane while no run is chosen. */
export default function DagTabs({ dag: d, tab, task, states, nodes }: Props) {
  const [dialog, setDialog] = useState<'backfill' | 'delete' | null>(null);
  const refresh = useRefresh();
  const [, go] = useLocation();
  const id = d.dag_id;
  const { has } = useSession();
  const periodic = has('backfills') && (d.is_backfillable ?? d.timetable_periodic ?? !!d.next_dagrun_run_after);
  const latest = states?.columns.get(states.order[0] ?? '')?.run;
  const tabs: [string, string][] = [['', 'Overview'], ['runs', 'Runs'], ['tasks', 'Tasks'], ['calendar', 'Calendar'], ...(periodic ? ([['backfills', 'Backfills']] as [string, string][]) : []), ...(has('events') ? ([['events', 'Audit log']] as [string, string][]) : []), ['code', 'Code'], ['details', 'Details']];
  const star = () => call(api.dag(id) + (d.is_favorite ? '/unfavorite' : '/favorite'), { method: 'POST' }).then(refresh, toastError);
  return (
    <>
      <header className="panehead">
        <div className="row wrap">
          <h1>{d.dag_display_name}</h1>
          {d.tags.map((t) => <Link key={t.name} className="tag" href={'/dags' + query({ tags: t.name })}>{t.name}</Link>)}
          <span className="grow" />
          {periodic && <button type="button" className="btn" onClick={() => setDialog('backfill')}>Backfill</button>}
          <button type="button" className="btn icon" aria-pressed={d.is_favorite} aria-label={d.is_favorite ? 'No favourite any more' : 'Make it a favourite'} title={d.is_favorite ? 'No favourite any more' : 'Make it a favourite'} onClick={() => void star()}><Icon name="star" /></button>
          <Menu label="More actions" className="btn icon" align="right" button={<Icon name="more" />}>
            <button type="button" onClick={() => { call(`api/v2/parseDagFile/${encodeURIComponent(d.file_token)}`, { method: 'PUT' }).then(() => toast('The file will be parsed again.'), toastError); }}><Icon name="clear" />Parse the file again</button>
            <button type="button" className="btn danger" onClick={() => setDialog('delete')}><Icon name="trash" />Delete the DAG’s records</button>
          </Menu>
        </div>
        {d.description && <p className="muted" style={{ margin: 0 }}>{d.description}</p>}
        <Facts
          items={[
            ['Schedule', d.timetable_summary && d.timetable_summary !== 'None' && <span className="mono" title={d.timetable_description ?? ''}>{d.timetable_summary}</span>],
            ['Latest run', latest && <Link href={to.run(id, latest.run_id)} className="row" style={{ gap: 5 }}><StateDot state={latest.state} /><Time t={latest.run_after} /></Link>],
            ['Next run', !d.is_paused && !!d.next_dagrun_run_after && <Time t={d.next_dagrun_run_after} />], ['Active runs', `${d.active_runs_count}${d.max_active_runs ? ` of ${d.max_active_runs}` : ''}`],
            ['Owner', d.owners.map((o, i) => <span key={o}>{i > 0 && ', '}{d.owner_links?.[o] ? <SafeLink href={d.owner_links[o]}>{o}</SafeLink> : <Link href={'/dags' + query({ owners: o })}>{o}</Link>}</span>)],
            ['Version', d.latest_dag_version && `v${d.latest_dag_version.version_number}`],
          ]}
        />
        <Tabs label="DAG" current={tab} tabs={tabs.map(([key, label]) => ({ key, label, href: to.dag(id, key) }))} />
      </header>
      <div className="panebody">
        <Suspense fallback={<Loading />}>
          {tab === '' && <Overview dag={d} states={states} nodes={nodes} />}
          {tab === 'runs' && <RunList dag={id} />}
          {tab === 'tasks' && (task ? <TaskPage dag={id} task={task} /> : <TaskTable dag={id} />)}
          {tab === 'calendar' && <Calendar dag={id} />}
          {tab === 'backfills' && <Backfills dag={id} />}
          {tab === 'events' && <Events filter={{ dag_id: id }} />}
          {tab === 'code' && <Code dag={id} />}
          {tab === 'details' && <DagDetailsTab dag={d} />}
        </Suspense>
      </div>
      <Suspense fallback={null}>{dialog === 'backfill' && <BackfillDialog dag={d} onClose={() => setDialog(null)} />}</Suspense>
      {dialog === 'delete' && (
        <Confirm title={`Delete the records of ${id}`} action="Delete" danger onClose={() => setDialog(null)} onConfirm={() => del(api.dag(id)).then(async () => { toast(`${id} is deleted.`); go('/dags'); await refresh(); })}>
          <p>All runs, task instances and logs of this DAG go. As long as its file is in the DAG folder it comes back, without its history.</p>
        </Confirm>
      )}
    </>
  );
}

function Overview({ dag, states, nodes }: { dag: DagDetails; states: GridStates | undefined; nodes: Node[] | undefined }) {
  const zone = useZone();
  const columns = (states?.order ?? []).map((r) => states?.columns.get(r)).filter((c) => c !== undefined);
  const now = useNow(columns.some((c) => c.run.state === 'running'));
  const failed = useMemo(() => {
    const tasks = (nodes ?? []).filter((n) => !n.group);
    return columns.flatMap((c) => tasks.flatMap((n, i) => (stateOfLetter(c.cells[i]) === 'failed' ? [{ run: c.run, task: n }] : []))).slice(0, 12);
  }, [columns, nodes]);
  if (!states) return <Loading />;
  const runs = columns.map((c) => c.run).reverse();
  const took = runs.map((r) => secondsBetween(r.start_date, r.end_date, now) ?? 0);
  const waited = runs.map((r) => (r.queued_at && r.start_date ? Math.max(0, secondsBetween(r.queued_at, r.start_date) ?? 0) : 0));
  const longest = Math.max(0.001, ...took.map((t, i) => t + (waited[i] ?? 0)));
  const sorted = [...took].filter((t) => t > 0).sort((a, b) => a - b);
  const median = sorted.length ? (sorted[Math.floor(sorted.length / 2)] ?? 0) : 0;
  const counts: Record<string, number> = {};
  for (const r of runs) counts[r.state] = (counts[r.state] ?? 0) + 1;
  return (
    <div className="stack" style={{ gap: 14 }}>
      <div className="row wrap">{Object.entries(counts).map(([s, n]) => <Link key={s} href={to.dag(dag.dag_id, 'runs') + query({ state: s })}><StateBadge state={s} count={n} /></Link>)}{runs.length > 0 && <span className="muted">of the last {runs.length} runs</span>}</div>
      {runs.length === 0 ? <Empty>No runs yet. {dag.is_paused ? 'The DAG is paused; unpause or trigger it.' : ''}</Empty> : (
        <section className="card" aria-label="Durations of the last runs">
          <h2>Durations</h2>
          <svg viewBox={`0 0 ${Math.max(560, runs.length * 22)} 150`} width="100%" style={{ maxHeight: 220 }} role="img" aria-label={`Durations of ${runs.length} runs, at most ${shortDuration(longest)}, median ${shortDuration(median)}`} preserveAspectRatio="xMinYMax meet">
            {runs.map((r, i) => {
              const h = (128 * (took[i] ?? 0)) / longest;
              const q = (128 * (waited[i] ?? 0)) / longest;
              return (
                <g key={r.run_id}>
                  <title>{`${formatTime(r.run_after, zone)}: ${r.state}, ${shortDuration(took[i])}, queued ${shortDuration(waited[i])}`}</title>
                  <rect x={i * 22 + 2} width="18" y={146 - h - q} height={Math.max(h, 1)} rx="2" fill={`var(--s-${cssState(r.state)})`} />
                  {q > 0.5 && <rect x={i * 22 + 2} width="18" y={146 - q} height={q} fill="var(--s-queued)" />}
                </g>
              );
            })}
            <line x1="0" x2={runs.length * 22 + 4} y1={146 - (128 * median) / longest} y2={146 - (128 * median) / longest} stroke="var(--fg-2)" strokeDasharray="4 3" />
          </svg>
          <p className="small muted" style={{ margin: 0 }}>Longest {shortDuration(longest)}, median {shortDuration(median)} (dashed); dark: waited in the queue.</p>
        </section>
      )}
      {failed.length > 0 && (
        <section className="card" aria-label="Failed tasks">
          <h2>Failed tasks</h2>
          <table className="t dense">
            <thead><tr><th scope="col">Task</th><th scope="col">Run</th></tr></thead>
            <tbody>{failed.map((f) => <tr key={f.run.run_id + f.task.id}><td className="row"><StateDot state="failed" /><Link href={to.ti(dag.dag_id, f.run.run_id, f.task.id) + (f.task.mapped ? '/mapped' : '')}>{f.task.id}</Link></td><td><Link href={to.run(dag.dag_id, f.run.run_id)}><Time t={f.run.run_after} /></Link> <span className="muted">{ago(f.run.run_after)}</span></td></tr>)}</tbody>
          </table>
        </section>
      )}
      {dag.doc_md && <details className="card" open={dag.doc_md.length < 800}><summary><b>Documentation</b></summary><pre style={{ marginTop: 6 }}>{dag.doc_md}</pre></details>}
    </div>
  );
}

function TaskTable({ dag }: { dag: string }) {
  const list = useGet<{ tasks: Task[] }>(api.dag(dag) + '/tasks');
  const [find, setFind] = useState('');
  if (list.isError) return <Failed error={list.error} />;
  if (!list.data) return <Loading />;
  const rows = list.data.tasks.filter((t) => [t.task_id, t.operator_name ?? '', t.trigger_rule ?? ''].some((s) => s.toLowerCase().includes(find.toLowerCase())));
  return (
    <div className="stack">
      <div className="filters"><input type="search" aria-label="Find by id, operator or trigger rule" placeholder="Find by id, operator or trigger rule" value={find} onChange={(e) => setFind(e.target.value)} /><span>{rows.length} tasks</span></div>
      <table className="t dense">
        <thead><tr><th scope="col">Task</th><th scope="col">Trigger rule</th><th scope="col">Operator</th><th scope="col">Retries</th><th scope="col">Mapped</th></tr></thead>
        <tbody>{rows.slice(0, 1000).map((t) => <tr key={t.task_id}><td><Link href={to.dag(dag, 'tasks/' + encodeURIComponent(t.task_id))}>{t.task_display_name ?? t.task_id}</Link></td><td>{t.trigger_rule}</td><td>{t.operator_name}</td><td>{t.retries}</td><td>{t.is_mapped ? 'yes' : ''}</td></tr>)}</tbody>
      </table>
    </div>
  );
}

function TaskPage({ dag, task }: { dag: string; task: string }) {
  const t = useGet<Task>(api.dag(dag) + '/tasks/' + encodeURIComponent(task));
  return (
    <div className="stack">
      <h2>{task}</h2>
      {t.isError && <Failed error={t.error} />}
      {t.data && <Facts items={[['Operator', t.data.operator_name], ['Trigger rule', t.data.trigger_rule], ['Retries', t.data.retries], ['Pool', t.data.pool], ['Queue', t.data.queue], ['Owner', t.data.owner], ['Downstream', (t.data.downstream_task_ids ?? []).join(', ')]]} />}
      {t.data?.doc_md && <pre className="card">{t.data.doc_md}</pre>}
      <TaskInstanceList dag={dag} task={task} />
    </div>
  );
}

function Backfills({ dag }: { dag: string }) {
  const list = useGet<{ backfills: Backfill[] }>('api/v2/backfills' + query({ dag_id: dag, order_by: '-id' }));
  if (list.isError) return <Failed error={list.error} />;
  if (!list.data) return <Loading />;
  if (!list.data.backfills.length) return <Empty>No backfills yet.</Empty>;
  return (
    <table className="t">
      <thead><tr><th scope="col">From</th><th scope="col">To</th><th scope="col">Reprocess</th><th scope="col">Created</th><th scope="col">Completed</th><th scope="col">Max active runs</th><th scope="col">Runs</th></tr></thead>
      <tbody>{list.data.backfills.map((b) => <tr key={b.id}><td><Time t={b.from_date} /></td><td><Time t={b.to_date} /></td><td>{b.reprocess_behavior}</td><td><Time t={b.created_at} /></td><td><Time t={b.completed_at} /></td><td>{b.max_active_runs}</td><td><Link href={to.dag(dag, 'runs') + '?run_type=backfill'}>its runs</Link></td></tr>)}</tbody>
    </table>
  );
}

function DagDetailsTab({ dag }: { dag: DagDetails }) {
  const skip = new Set(['doc_md', 'tags', 'description', 'file_token']);
  return <KeyValues items={Object.entries(dag).filter(([k]) => !skip.has(k)).map(([k, v]): [string, React.ReactNode] => [k, typeof v === 'string' && /^\d{4}-\d\d-\d\dT/.test(v) ? <Time t={v} /> : <span className={typeof v === 'object' ? 'mono' : undefined} style={{ whiteSpace: 'pre-wrap' }}>{show(v)}</span>])} />;
}
