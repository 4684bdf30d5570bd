import { lazy, Suspense, useMemo, useState } from 'react';
import { Link, useLocation } from 'wouter';
import { api, call, del, patch, to } from '../lib/api';
import { useShortcuts } from '../lib/keys';
import { useGet, useNow, useRefresh } from '../lib/query';
import { useSession } from '../lib/session';
import { stateLabel, taskStates } from '../lib/states';
import { formatDuration, secondsBetween, shortDuration } from '../lib/time';
import type { DagRun, Instance, Instances } from '../lib/types';
import { Confirm, Empty, Facts, Failed, KeyValues, Loading, Menu, show, Tabs, Time, toast, toastError } from '../ui/base';
import { Icon } from '../ui/icons';
import { Note } from '../ui/note';
import { StateBadge } from '../ui/state';
import { useFilters } from './dags';

const Events = lazy(() => import('../ui/eventlist'));
const Code = lazy(() => import('../ui/code'));
const ClearDialog = lazy(() => import('../ui/clear'));
const MarkDialog = lazy(() => import('../ui/mark'));
const TriggerDialog = lazy(() => import('../ui/trigger'));
const AssetEvents = lazy(() => import('../ui/assetevents'));

/** A run: its task instances first. With task only the instances of that mapped task, with group those of a group. */
export default function RunPane({ run: r, tab, task, group }: { run: DagRun; tab: string; task?: string | undefined; group?: string | undefined }) {
  const [action, setAction] = useState<'clear' | 'success' | 'failed' | 'delete' | 'again' | null>(null);
  const refresh = useRefresh();
  const [, go] = useLocation();
  const { has } = useSession();
  useShortcuts([
    { keys: 'Shift+C', does: 'Clear the run', run: () => setAction('clear') },
    { keys: 'Shift+S', does: 'Mark the run success', run: () => setAction('success') },
    { keys: 'Shift+F', does: 'Mark the run failed', run: () => setAction('failed') },
  ]);
  const now = useNow(r.state === 'running');
  const href = (sub: string) => to.run(r.dag_id, r.dag_run_id, sub);
  const took = r.duration ?? secondsBetween(r.start_date, r.end_date, now);
  return (
    <>
      <header className="panehead">
        <div className="row wrap">
          <h1 className="clip" title={r.dag_run_id}>{task ? `${task} (mapped)` : r.dag_run_id}</h1>
          <StateBadge state={r.state} />
          <span className="grow" />
          <Note text={r.note} path={api.run(r.dag_id, r.dag_run_id)} what="this run" />
          <button type="button" className="btn" onClick={() => setAction('clear')} title="Clear (Shift+C)"><Icon name="clear" />Clear</button>
          <button type="button" className="btn icon" aria-label="Mark success" title="Mark success (Shift+S)" onClick={() => setAction('success')}><Icon name="check" /></button>
          <button type="button" className="btn icon" aria-label="Mark failed" title="Mark failed (Shift+F)" onClick={() => setAction('failed')}><Icon name="cross" /></button>
          <Menu label="More actions" className="btn icon" align="right" button={<Icon name="more" />}>
            <button type="button" onClick={() => setAction('again')}><Icon name="play" />Trigger again with this configuration</button>
            <button type="button" className="btn danger" onClick={() => setAction('delete')}><Icon name="trash" />Delete the run</button>
          </Menu>
        </div>
        <Facts
          items={[
            ['Run after', <Time key="a" t={r.run_after} />], ['Type', `${r.run_type}${r.triggering_user_name ? ` by ${r.triggering_user_name}` : ''}`], ['Start', r.start_date && <Time t={r.start_date} />], ['End', r.end_date && <Time t={r.end_date} />],
            ['Duration', formatDuration(took)], ['Version', (r.dag_versions ?? []).map((v) => `v${v.version_number}`).join(', ')],
          ]}
        />
        <Tabs label="Run" current={tab} tabs={[{ key: '', label: 'Task instances', href: href('') }, ...(has('assets') ? [{ key: 'asset_events', label: 'Asset events', href: href('asset_events') }] : []), ...(has('events') ? [{ key: 'events', label: 'Audit log', href: href('events') }] : []), { key: 'code', label: 'Code', href: href('code') }, { key: 'details', label: 'Details', href: href('details') }]} />
      </header>
      <div className="panebody">
        <Suspense fallback={<Loading />}>
          {tab === '' && <InstanceTable dag={r.dag_id} run={r.dag_run_id} task={task} group={group} />}
          {tab === 'asset_events' && <AssetEvents path={api.run(r.dag_id, r.dag_run_id) + '/upstreamAssetEvents'} empty="No asset event led to this run." />}
          {tab === 'events' && <Events filter={{ dag_id: r.dag_id, run_id: r.dag_run_id }} />}
          {tab === 'code' && <Code dag={r.dag_id} version={r.dag_versions?.[r.dag_versions.length - 1]?.version_number} />}
          {tab === 'details' && <KeyValues items={Object.entries(r).filter(([k]) => k !== 'dag_versions').map(([k, v]): [string, React.ReactNode] => [k, /(_date|_at|_after|_decision|interval_start|interval_end)$/.test(k) && typeof v === 'string' ? <Time t={v} /> : <span className={typeof v === 'object' ? 'mono' : undefined} style={{ whiteSpace: 'pre-wrap' }}>{show(v)}</span>])} />}
        </Suspense>
      </div>
      <Suspense fallback={null}>
        {action === 'clear' && <ClearDialog dag={r.dag_id} run={r.dag_run_id} onClose={() => setAction(null)} />}
        {(action === 'success' || action === 'failed') && <MarkDialog dag={r.dag_id} run={r.dag_run_id} state={action} onClose={() => setAction(null)} />}
        {action === 'again' && <TriggerDialog dag={r.dag_id} conf={r.conf ?? {}} onClose={() => setAction(null)} />}
      </Suspense>
      {action === 'delete' && (
        <Confirm title={`Delete run ${r.dag_run_id}`} action="Delete" danger onClose={() => setAction(null)} onConfirm={() => del(api.run(r.dag_id, r.dag_run_id)).then(async () => { toast('The run is deleted.'); go(to.dag(r.dag_id, 'runs')); await refresh(); })}>
          <p>The run, its task instances, logs and XComs go. This cannot be undone.</p>
        </Confirm>
      )}
    </>
  );
}

type Key = 'task_id' | 'state' | 'start_date' | 'duration' | 'try_number' | 'order';

/** All instances of a run in one request; sorted by start unless asked otherwise. */
function InstanceTable({ dag, run, task, group }: { dag: string; run: string; task?: string | undefined; group?: string | undefined }) {
  const [params, set] = useFilters();
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [clearing, setClearing] = useState(false);
  const [limit, setLimit] = useState(200);
  const refresh = useRefresh();
  const list = useGet<Instances>(`ui/dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(run)}/instances`, { pending: (d) => d.pending });
  const now = useNow(list.data?.pending ?? false);
  const state = params.get('state') ?? '';
  const find = params.get('task') ?? '';
  const sort = (params.get('sort') ?? 'order') as string;
  const rows = useMemo(() => {
    const key = sort.replace('-', '') as Key;
    const all = (list.data?.instances ?? []).filter((i) => (!task || i.task_id === task) && (!group || i.task_id.startsWith(group + '.')) && (!state || (i.state ?? 'none') === state) && (!find || i.task_id.toLowerCase().includes(find.toLowerCase())));
    if (key === 'order') {
      const at = (i: Instance) => i.start_date ?? i.queued_when ?? '~';
      return [...all].sort((a, b) => (at(a) < at(b) ? -1 : at(a) > at(b) ? 1 : 0));
    }
    const dir = sort.startsWith('-') ? -1 : 1;
    const val = (i: Instance) => (key === 'duration' ? (i.duration ?? -1) : (i[key as keyof Instance] ?? ''));
    return [...all].sort((a, b) => (val(a)! < val(b)! ? -dir : val(a)! > val(b)! ? dir : 0)); // eslint-disable-line @typescript-eslint/no-non-null-assertion
  }, [list.data, task, group, state, find, sort]);
  if (list.isError) return <Failed error={list.error} />;
  if (!list.data) return <Loading />;
  const id = (i: Instance) => `${i.task_id}\u0000${i.map_index}`;
  const refs = () => [...chosen].map((c): [string, number] | string => { const [t = '', m = '-1'] = c.split('\u0000'); return Number(m) >= 0 ? [t, Number(m)] : t; });
  const head = (k: string, label: string) => <th scope="col" aria-sort={sort === k ? 'ascending' : sort === '-' + k ? 'descending' : 'none'}><button type="button" onClick={() => set({ sort: sort === k ? '-' + k : k })}>{label}{sort === k ? ' ↑' : sort === '-' + k ? ' ↓' : ''}</button></th>;
  const mark = (new_state: string) => {
    call(api.run(dag, run) + '/taskInstances', { method: 'PATCH', body: { actions: [{ action: 'update', entities: [...chosen].map((c) => { const [t = '', m = '-1'] = c.split('\u0000'); return { task_id: t, map_index: Number(m), new_state }; }) }] } })
      .then(async (r) => {
        const errors = (r as { update?: { errors?: { error: string }[] } }).update?.errors ?? [];
        if (errors.length) toastError(new Error(errors.map((e) => e.error).join('; ')));
        else toast(`Marked ${chosen.size} as ${new_state}.`);
        setChosen(new Set());
        await refresh();
      }, toastError);
  };
  const counts = Object.entries(list.data.counts);
  return (
    <div className="stack">
      <div className="filters">
        <input type="search" aria-label="Find a task" placeholder="Find a task" value={find} onChange={(e) => set({ task: e.target.value || null })} />
        <select aria-label="State" value={state} onChange={(e) => set({ state: e.target.value || null })}><option value="">Any state</option><option value="none">no status</option>{taskStates.map((s) => <option key={s} value={s}>{stateLabel(s)}</option>)}</select>
        {counts.map(([s, n]) => <button key={s} type="button" className="btn icon" style={{ padding: 0, minHeight: 0 }} aria-pressed={undefined} onClick={() => set({ state: state === s ? null : s })} aria-label={`${n} ${stateLabel(s === 'none' ? null : s)}: filter`}><StateBadge state={s === 'none' ? null : s} count={n} /></button>)}
        {group && <span className="pill">group {group} <button type="button" className="btn icon" style={{ minHeight: 0, padding: 0 }} aria-label="Show all tasks" onClick={() => set({ group: null })}>✕</button></span>}
      </div>
      {rows.length === 0 ? <Empty>No task instance matches.</Empty> : (
        <div className="scroll" tabIndex={0} role="region" aria-label="Task instances">
          <table className="t dense">
            <thead>
              <tr>
                <th scope="col"><input type="checkbox" aria-label="Choose all" checked={chosen.size > 0 && rows.every((i) => chosen.has(id(i)))} onChange={(e) => setChosen(e.target.checked ? new Set(rows.map(id)) : new Set())} /></th>
                {head('task_id', 'Task')}{head('state', 'State')}{head('start_date', 'Start')}{head('duration', 'Duration')}{head('try_number', 'Try')}<th scope="col" className="hide-narrow">Operator</th>
              </tr>
            </thead>
            <tbody>
              {rows.slice(0, limit).map((i) => (
                <tr key={id(i)} data-task={i.task_id}>
                  <td><input type="checkbox" aria-label={`Choose ${i.task_id}${i.map_index >= 0 ? ` ${i.map_index}` : ''}`} checked={chosen.has(id(i))} onChange={() => { const n = new Set(chosen); if (!n.delete(id(i))) n.add(id(i)); setChosen(n); }} /></td>
                  <td><Link href={to.ti(dag, run, i.task_id, i.map_index)}>{i.task_id}{i.map_index >= 0 && ` [${i.rendered_map_index ?? i.map_index}]`}</Link></td>
                  <td><StateBadge state={i.state} /></td>
                  <td><Time t={i.start_date} /></td>
                  <td className="nowrap">{shortDuration(i.duration ?? (i.start_date && !i.end_date ? secondsBetween(i.start_date, null, now) : null))}</td>
                  <td>{i.try_number || ''}</td>
                  <td className="hide-narrow">{i.operator}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {rows.length > limit && <button type="button" className="btn" onClick={() => setLimit(limit + 500)}>Show more ({rows.length - limit})</button>}
      {chosen.size > 0 && (
        <div className="bulk" role="toolbar" aria-label="With the chosen">
          <b>{chosen.size} chosen</b>
          <button type="button" className="btn" onClick={() => setClearing(true)}><Icon name="clear" />Clear…</button>
          <button type="button" className="btn" onClick={() => mark('success')}><Icon name="check" />Mark success</button>
          <button type="button" className="btn" onClick={() => mark('failed')}><Icon name="cross" />Mark failed</button>
          <button type="button" className="btn" onClick={() => setChosen(new Set())}>Choose none</button>
        </div>
      )}
      <Suspense fallback={null}>{clearing && <ClearDialog dag={dag} run={run} tasks={refs()} onClose={() => { setClearing(false); setChosen(new Set()); }} />}</Suspense>
    </div>
  );
}

/** Used by the list of runs for its rows' actions. */
export const markRun = (dag: string, run: string, state: string) => patch(api.run(dag, run), { state });
