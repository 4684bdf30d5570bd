import { lazy, Suspense, useState } from 'react';
import { Link } from 'wouter';
import { api, to } from '../lib/api';
import { useShortcuts } from '../lib/keys';
import { useGet, useNow } from '../lib/query';
import { useSession } from '../lib/session';
import { unfinished } from '../lib/states';
import { formatDuration, secondsBetween } from '../lib/time';
import type { Task, TaskInstance } from '../lib/types';
import { CopyButton, Empty, Facts, Failed, KeyValues, Loading, show, Tabs, Time } from '../ui/base';
import { Icon } from '../ui/icons';
import { Note } from '../ui/note';
import { StateBadge, StateDot } from '../ui/state';

const LogView = lazy(() => import('../ui/log'));
const Xcoms = lazy(() => import('../ui/xcomlist'));
const Events = lazy(() => import('../ui/eventlist'));
const Code = lazy(() => import('../ui/code'));
const ClearDialog = lazy(() => import('../ui/clear'));
const MarkDialog = lazy(() => import('../ui/mark'));

interface Props {
  dag: string;
  run: string;
  task: string;
  map: number;
  tab: string;
}

/** Everything about one task instance: the log first. */
export default function TaskInstancePane({ dag, run, task, map, tab }: Props) {
  const ti = useGet<TaskInstance>(api.ti(dag, run, task, map), { pending: (t) => unfinished(t.state) });
  const tries = useGet<{ task_instances: TaskInstance[] }>(api.ti(dag, run, task, map) + '/tries', { enabled: ti.isSuccess, pending: () => unfinished(ti.data?.state) });
  const [chosen, setChosen] = useState<number | null>(null);
  const [action, setAction] = useState<'clear' | 'success' | 'failed' | null>(null);
  useShortcuts([
    { keys: 'Shift+C', does: 'Clear the task instance', run: () => setAction('clear') },
    { keys: 'Shift+S', does: 'Mark success', run: () => setAction('success') },
    { keys: 'Shift+F', does: 'Mark failed', run: () => setAction('failed') },
  ]);
  const { has } = useSession();
  const moving = unfinished(ti.data?.state);
  const now = useNow(ti.data?.state === 'running');
  const mapped = ti.isError && (ti.error as { status?: number }).status === 404 && /mapped/i.test(ti.error.message);
  if (mapped) return <div className="panebody"><p>This task is mapped.</p><Link href={to.ti(dag, run, task) + '/mapped'}>Its instances</Link></div>;
  if (ti.isError) return <div className="panebody"><Failed error={ti.error} /></div>;
  const t = ti.data;
  if (!t) return <Loading />;
  const all = [...new Set([...(tries.data?.task_instances ?? []).map((x) => x.try_number), t.try_number])].filter((n) => n > 0).sort((a, b) => a - b);
  const attempt = chosen ?? t.try_number;
  const stateOf = (n: number) => (n === t.try_number ? t.state : (tries.data?.task_instances.find((x) => x.try_number === n)?.state ?? null));
  const shown = attempt === t.try_number ? t : (tries.data?.task_instances.find((x) => x.try_number === attempt) ?? t);
  const href = (sub: string) => to.ti(dag, run, task, map, sub);
  const took = shown.duration ?? secondsBetween(shown.start_date, shown.end_date, now);
  return (
    <>
      <header className="panehead">
        <div className="row wrap">
          <h1 className="row" style={{ gap: 8 }}>{t.task_display_name || t.task_id}{map >= 0 && <span className="muted">[{t.rendered_map_index ?? map}]</span>}</h1>
          <StateBadge state={t.state} />
          <span className="grow" />
          <Note text={t.note} path={api.ti(dag, run, task, map)} what={task} />
          <button type="button" className="btn" onClick={() => setAction('clear')} title="Clear (Shift+C)"><Icon name="clear" />Clear</button>
          <button type="button" className="btn icon" aria-label="Mark success" title="Mark success (Shift+S)" onClick={() => setAction('success')}><Icon name="check" /></button>
          <button type="button" className="btn icon" aria-label="Mark failed" title="Mark failed (Shift+F)" onClick={() => setAction('failed')}><Icon name="cross" /></button>
        </div>
        <Facts items={[['Operator', t.operator_name ?? t.operator], ['Start', shown.start_date && <Time t={shown.start_date} />], ['End', shown.end_date && <Time t={shown.end_date} />], ['Duration', formatDuration(took)], ['Pool', t.pool], ['Tries', t.try_number ? `${t.try_number} of at most ${t.max_tries + 1}` : '']]} />
        {all.length > 1 && (
          <div className="row wrap" role="group" aria-label="Tries">
            {all.map((n) => <button type="button" key={n} className="btn" aria-pressed={n === attempt} onClick={() => setChosen(n)}><StateDot state={stateOf(n)} />Try {n}</button>)}
          </div>
        )}
        <Tabs
          label="Task instance" current={tab || 'logs'}
          tabs={[{ key: 'logs', label: 'Logs', href: href('') }, { key: 'rendered_templates', label: 'Rendered', href: href('rendered_templates') }, { key: 'xcom', label: 'XCom', href: href('xcom') }, ...(has('events') ? [{ key: 'events', label: 'Audit log', href: href('events') }] : []), { key: 'code', label: 'Code', href: href('code') }, { key: 'details', label: 'Details', href: href('details') }]}
        />
      </header>
      <div className="panebody" style={tab === '' || tab === 'logs' ? { display: 'flex', flexDirection: 'column', gap: 8 } : undefined}>
        <Suspense fallback={<Loading />}>
          {(tab === '' || tab === 'logs') && (
            <>
              {t.state !== 'running' && moving && <WhyNot dag={dag} run={run} task={task} map={map} />}
              {attempt > 0 ? <LogView key={attempt} dag={dag} run={run} task={task} map={map} attempt={attempt} moving={moving && attempt === t.try_number} /> : <Empty>{t.state === 'upstream_failed' ? 'It never ran: something upstream failed.' : t.state === 'skipped' ? 'It was skipped and never ran.' : 'It has not run yet.'}</Empty>}
            </>
          )}
          {tab === 'rendered_templates' && <Rendered fields={t.rendered_fields} />}
          {tab === 'xcom' && <Xcoms dag={dag} run={run} task={task} map={map} />}
          {tab === 'events' && <Events filter={{ dag_id: dag, run_id: run, task_id: task }} />}
          {tab === 'code' && <Code dag={dag} version={(t['dag_version'] as { version_number?: number } | null)?.version_number} />}
          {tab === 'details' && <Details ti={t} dag={dag} moving={moving} />}
        </Suspense>
      </div>
      <Suspense fallback={null}>
        {action === 'clear' && <ClearDialog dag={dag} run={run} task={task} map={map} onClose={() => setAction(null)} />}
        {(action === 'success' || action === 'failed') && <MarkDialog dag={dag} run={run} task={task} map={map} state={action} onClose={() => setAction(null)} />}
      </Suspense>
    </>
  );
}

/** Why a task instance is not running, in the scheduler's words. */
function WhyNot({ dag, run, task, map }: Omit<Props, 'tab'>) {
  const deps = useGet<{ dependencies: { name: string; reason: string }[] }>(api.ti(dag, run, task, map) + '/dependencies', { pending: () => true });
  const list = deps.data?.dependencies ?? [];
  if (!list.length) return null;
  return (
    <section className="notice" aria-label="Why it is not running">
      <b>Why it is not running</b>
      <ul style={{ margin: '4px 0 0', paddingLeft: 18 }}>{list.map((d) => <li key={d.name + d.reason}><b>{d.name}:</b> {d.reason}</li>)}</ul>
    </section>
  );
}

function Rendered({ fields }: { fields: Record<string, unknown> | null }) {
  const list = Object.entries(fields ?? {}).filter(([, v]) => v !== null);
  if (!list.length) return <Empty>No rendered template fields.</Empty>;
  return (
    <div className="stack">
      {list.map(([k, v]) => (
        <section key={k} className="card" aria-label={k}>
          <div className="row"><h3 className="grow">{k}</h3><CopyButton text={() => show(v)} label={`Copy ${k}`} /></div>
          <pre>{show(v)}</pre>
        </section>
      ))}
    </div>
  );
}

function Details({ ti, dag, moving }: { ti: TaskInstance; dag: string; moving: boolean }) {
  const task = useGet<Task>(api.dag(dag) + '/tasks/' + encodeURIComponent(ti.task_id), { stale: 60_000 });
  const skip = new Set(['rendered_fields', 'dag_version', 'note', 'trigger', 'triggerer_job']);
  return (
    <div className="stack">
      {moving && <WhyNot dag={dag} run={ti.dag_run_id} task={ti.task_id} map={ti.map_index} />}
      {task.data?.doc_md && <section className="card"><h3>Documentation</h3><pre>{task.data.doc_md}</pre></section>}
      <KeyValues items={[...Object.entries(ti).filter(([k]) => !skip.has(k)), ['version_number', (ti['dag_version'] as { version_number?: number } | null)?.version_number]].map(([k, v]): [string, React.ReactNode] => [String(k), /(_date|_when|^run_after)$/.test(String(k)) && typeof v === 'string' ? <Time t={v} /> : <span className={typeof v === 'object' ? 'mono' : undefined}>{show(v)}</span>])} />
      {task.data && <><h2>Task</h2><KeyValues items={Object.entries(task.data).filter(([k]) => k !== 'doc_md').map(([k, v]): [string, React.ReactNode] => [k, <span key={k} className={typeof v === 'object' ? 'mono' : undefined}>{show(v)}</span>])} /></>}
    </div>
  );
}
