import { lazy, Suspense, useMemo, useRef, useState } from 'react';
import { Link, useLocation } from 'wouter';
import { api, to } from '../lib/api';
import { useShortcuts } from '../lib/keys';
import { usePref } from '../lib/prefs';
import { useGet } from '../lib/query';
import { useSession } from '../lib/session';
import { runStates, stateLabel } from '../lib/states';
import type { Backfill, DagDetails, DagRun } from '../lib/types';
import { Grid, type Selection } from '../grid/grid';
import { rowsOf, useGridStates, useStructure } from '../grid/data';
import { Empty, Failed, Loading, Menu } from '../ui/base';
import { PauseSwitch } from '../ui/dagbits';
import { Icon } from '../ui/icons';
import { StateDot } from '../ui/state';
import { BackfillBanner } from '../ui/banner';
import { useFilters } from './dags';

const Graph = lazy(() => import('../grid/graph'));
const Gantt = lazy(() => import('../grid/gantt'));
const DagTabs = lazy(() => import('./dagtabs'));
const RunPane = lazy(() => import('./run'));
const TaskInstancePane = lazy(() => import('./ti'));
const TriggerDialog = lazy(() => import('../ui/trigger'));
const ClearDialog = lazy(() => import('../ui/clear'));
const MarkDialog = lazy(() => import('../ui/mark'));

/** What the rest of the address after /dags/D names. */
export interface Place {
  tab: string; // of the DAG
  run?: string;
  task?: string;
  group?: string;
  map?: number | 'list';
  sub: string; // tab of the run or task instance
}

export function placeOf(rest: string): Place {
  const p = rest.split('/').filter(Boolean);
  if (p[0] !== 'runs' || p[1] === undefined) return p[0] === 'tasks' && p[1] ? { tab: 'tasks', task: p[1], sub: p[2] ?? '' } : { tab: p[0] ?? '', sub: '' };
  const run = p[1];
  if (p[2] !== 'tasks' || p[3] === undefined) return { tab: 'runs', run, sub: p[2] ?? '' };
  if (p[3] === 'group' && p[4]) return { tab: 'runs', run, group: p[4], sub: '' };
  const task = p[3];
  if (p[4] === 'mapped') {
    if (p[5] !== undefined && /^\d+$/.test(p[5])) return { tab: 'runs', run, task, map: Number(p[5]), sub: p[6] ?? '' };
    return { tab: 'runs', run, task, map: 'list', sub: '' };
  }
  return { tab: 'runs', run, task, sub: p[4] ?? '' };
}

interface MenuAt {
  x: number;
  y: number;
  run: string;
  task?: string | undefined;
  group?: boolean | undefined;
  state: string | null;
}

export default function DagPage({ dag, rest, onSearch }: { dag: string; rest: string; onSearch: () => void }) {
  const place = placeOf(rest);
  const [params, setParams] = useFilters();
  const [, go] = useLocation();
  const [view, setView] = usePref('dagview', 'grid');
  const [runs, setRuns] = usePref('gridruns', '25');
  const [widths, setWidths] = usePref('panes', '');
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set());
  const [match, setMatch] = useState('');
  const [dialog, setDialog] = useState<'trigger' | null>(null);
  const [menu, setMenu] = useState<MenuAt | null>(null);
  const [action, setAction] = useState<{ kind: 'clear' | 'success' | 'failed'; run: string; task?: string | undefined } | null>(null);

  const { has } = useSession();
  const details = useGet<DagDetails>(api.dag(dag) + '/details', { keep: true });
  const states = useGridStates(dag, { runs: Number(runs) || 25, run_type: params.getAll('run_type'), state: params.getAll('run_state'), until: '' });
  const structure = useStructure(dag, states.data?.structure);
  const run = useGet<DagRun>(api.run(dag, place.run ?? ''), { enabled: place.run !== undefined, pending: (r) => r.state === 'running' || r.state === 'queued', keep: false });
  const backfills = useGet<{ backfills: Backfill[] }>(`api/v2/backfills?dag_id=${encodeURIComponent(dag)}&order_by=-id&limit=5`, { enabled: has('backfills'), pending: (b) => b.backfills.some((x) => !x.completed_at) });

  const nodes = structure.data?.nodes;
  const rows = useMemo(() => rowsOf(nodes ?? [], closed, match), [nodes, closed, match]);
  const selected: Selection = { run: place.run, task: place.task ?? place.group ?? params.get('group') ?? undefined };
  const left = view === 'gantt' && !place.run ? 'grid' : view;
  const stored = useMemo(() => (widths ? (JSON.parse(widths) as Record<string, number>) : {}), [widths]);
  const fitting = Math.min(560, Math.max(300, 190 + (states.data?.order.length ?? 0) * 18));
  const percent = left === 'grid' ? fitting : Math.round(window.innerWidth * 0.5);
  const width = stored[left] ?? percent;
  const pane = useRef<HTMLDivElement>(null);

  const toggle = (g: string) => {
    const next = new Set(closed);
    if (!next.delete(g)) next.add(g);
    setClosed(next);
  };
  const resize = (px: number) => setWidths(JSON.stringify({ ...stored, [left]: Math.round(Math.max(180, Math.min(px, window.innerWidth - 360))) }));
  const drag = (e: React.PointerEvent) => {
    const from = pane.current?.getBoundingClientRect().left ?? 0;
    const el = e.currentTarget as HTMLElement;
    el.setPointerCapture(e.pointerId);
    const moveTo = (m: PointerEvent) => { if (pane.current) pane.current.style.width = `${Math.max(180, m.clientX - from)}px`; };
    const up = (m: PointerEvent) => {
      el.removeEventListener('pointermove', moveTo);
      el.removeEventListener('pointerup', up);
      resize(m.clientX - from);
    };
    el.addEventListener('pointermove', moveTo);
    el.addEventListener('pointerup', up);
  };

  useShortcuts([{ keys: 'g', does: 'Grid or graph', run: () => setView(view === 'graph' ? 'grid' : 'graph') }]);

  if (details.isError && (details.error as { status?: number }).status === 404) {
    return <div className="page"><h1>There is no DAG {dag}</h1><Failed error={details.error} /><p><Link href="/dags">All DAGs</Link></p></div>;
  }
  const d = details.data;
  const groups = (nodes ?? []).filter((n) => n.group);
  const name = d?.dag_display_name ?? dag;
  const runState = run.data?.state ?? states.data?.columns.get(place.run ?? '')?.run.state;

  return (
    <div style={{ display: 'flex', flexDirection: 'column', height: '100%' }}>
      <div className="topbar">
        <nav className="crumbs" aria-label="Where you are">
          {d && <PauseSwitch dag={dag} paused={d.is_paused} />}
          <Link href={to.dag(dag)} aria-current={place.run || place.task ? undefined : 'page'}><b>{name}</b></Link>
          {place.run && <><span className="sep">/</span>{runState && <StateDot state={runState} />}<Link href={to.run(dag, place.run)} className="clip" aria-current={place.task ? undefined : 'page'}>{place.run}</Link></>}
          {place.task && <><span className="sep">/</span><Link href={place.run ? to.ti(dag, place.run, place.task) : to.dag(dag, 'tasks/' + encodeURIComponent(place.task))} aria-current="page">{place.task}</Link></>}
          {typeof place.map === 'number' && <><span className="sep">/</span><span>{place.map}</span></>}
        </nav>
        {d?.has_import_errors && <Link href="/import_errors" className="pill bad"><Icon name="warn" />import error</Link>}
        <button type="button" className="btn hide-narrow" onClick={onSearch}><Icon name="search" />Go to <kbd>Ctrl+K</kbd></button>
        <button type="button" className="btn primary" onClick={() => setDialog('trigger')}><Icon name="play" />Trigger</button>
      </div>
      {backfills.data?.backfills.filter((b) => !b.completed_at).map((b) => <BackfillBanner key={b.id} backfill={b} />)}
      <div className="dagpage" style={{ flex: 1 }}>
        <section className="leftpane" ref={pane} style={{ width }} aria-label="Runs and tasks">
          <div className="toolbar">
            <span className="seg" role="group" aria-label="View">
              <button type="button" className="btn" aria-pressed={left === 'grid'} onClick={() => setView('grid')} title="Grid (g)"><Icon name="grid" /><span className="visually-hidden">Grid</span></button>
              <button type="button" className="btn" aria-pressed={left === 'gantt'} disabled={!place.run} onClick={() => setView('gantt')} title={place.run ? 'Gantt' : 'Gantt: choose a run'}><Icon name="gantt" /><span className="visually-hidden">Gantt</span></button>
              <button type="button" className="btn" aria-pressed={left === 'graph'} onClick={() => setView('graph')} title="Graph (g)"><Icon name="graph" /><span className="visually-hidden">Graph</span></button>
            </span>
            {left !== 'graph' && <input type="search" style={{ width: 110, flex: '1 1 90px' }} aria-label="Find a task" placeholder="Find a task" value={match} onChange={(e) => setMatch(e.target.value)} />}
            <Menu label="Options of the grid" className="btn icon" align="right" button={<Icon name="admin" />}>
              <div className="head">Number of runs</div>
              {['10', '25', '50', '100', '365'].map((n) => <button type="button" key={n} aria-pressed={runs === n} onClick={() => setRuns(n)}>{runs === n ? '● ' : '○ '}{n}</button>)}
              <hr />
              <div className="head">Run state</div>
              {runStates.map((s) => {
                const on = params.getAll('run_state').includes(s);
                return <button type="button" key={s} aria-pressed={on} onClick={() => setParams({ run_state: on ? params.getAll('run_state').filter((x) => x !== s) : [...params.getAll('run_state'), s] })}>{on ? '☑' : '☐'} {stateLabel(s)}</button>;
              })}
              <div className="head">Run type</div>
              {['scheduled', 'manual', 'backfill', 'asset_triggered'].map((s) => {
                const on = params.getAll('run_type').includes(s);
                return <button type="button" key={s} aria-pressed={on} onClick={() => setParams({ run_type: on ? params.getAll('run_type').filter((x) => x !== s) : [...params.getAll('run_type'), s] })}>{on ? '☑' : '☐'} {stateLabel(s)}</button>;
              })}
              {groups.length > 0 && <><hr /><button type="button" onClick={() => setClosed(new Set(groups.map((g) => g.id)))}>Close all groups</button><button type="button" onClick={() => setClosed(new Set())}>Open all groups</button></>}
            </Menu>
          </div>
          {states.isError && <Failed error={states.error} />}
          {(states.isPending || structure.isPending) && !states.isError && <Loading />}
          <Suspense fallback={<Loading />}>
            {left === 'grid' && states.data && nodes && (
              states.data.order.length === 0 && rows.length === 0 ? <Empty>No task matches.</Empty> : (
                <Grid dag={dag} rows={rows} states={states.data} selected={selected} onToggle={toggle} onMenu={setMenu} />
              )
            )}
            {left === 'graph' && nodes && <Graph dag={dag} nodes={nodes} column={states.data?.columns.get(place.run ?? '')} run={place.run} selected={place.task} />}
            {left === 'gantt' && nodes && place.run && <Gantt dag={dag} run={place.run} rows={rows} selected={place.task} onToggle={toggle} />}
          </Suspense>
          {left === 'grid' && states.data?.order.length === 0 && <p className="muted small" style={{ padding: '4px 10px' }}>No runs{params.has('run_state') || params.has('run_type') ? ' match the filter' : ' yet'}.</p>}
        </section>
        <div
          className="divider" role="separator" aria-orientation="vertical" aria-label="Width of the left pane" aria-valuenow={Math.round(width)} aria-valuemin={180} aria-valuemax={window.innerWidth - 360} tabIndex={0} onPointerDown={drag}
          onKeyDown={(e) => { if (e.key === 'ArrowLeft' || e.key === 'ArrowRight') { e.preventDefault(); resize(width + (e.key === 'ArrowLeft' ? -30 : 30)); } }}
        />
        <section className="rightpane" aria-label="Details">
          <Suspense fallback={<Loading />}>
            {place.run && place.task && place.map !== 'list' ? (
              <TaskInstancePane key={`${place.run}/${place.task}/${String(place.map)}`} dag={dag} run={place.run} task={place.task} map={place.map ?? -1} tab={place.sub} />
            ) : place.run ? (
              run.isError ? <div className="panebody"><Failed error={run.error} /></div> : run.data ? <RunPane key={place.run} run={run.data} tab={place.sub} task={place.task} group={place.group ?? params.get('group') ?? undefined} /> : <Loading />
            ) : d ? (
              <DagTabs dag={d} tab={place.tab} task={place.task} states={states.data} nodes={nodes} />
            ) : details.isError ? <div className="panebody"><Failed error={details.error} /></div> : <Loading />}
          </Suspense>
        </section>
      </div>
      <Suspense fallback={null}>
        {dialog === 'trigger' && <TriggerDialog dag={dag} onClose={() => setDialog(null)} />}
        {action?.kind === 'clear' && <ClearDialog dag={dag} run={action.run} task={action.task} onClose={() => setAction(null)} />}
        {action && action.kind !== 'clear' && <MarkDialog dag={dag} run={action.run} task={action.task} state={action.kind} onClose={() => setAction(null)} />}
      </Suspense>
      {menu && (
        <div style={{ position: 'fixed', inset: 0, zIndex: 45 }} onClick={() => setMenu(null)} onContextMenu={(e) => { e.preventDefault(); setMenu(null); }}>
          <div className="menu" style={{ left: Math.min(menu.x, window.innerWidth - 190), top: Math.min(menu.y, window.innerHeight - 190) }} onKeyDown={(e) => { if (e.key === 'Escape') setMenu(null); }}>
            <div className="head">{menu.task ?? menu.run}</div>
            {!menu.group && <button type="button" autoFocus onClick={() => go(menu.task ? to.ti(dag, menu.run, menu.task) : to.run(dag, menu.run))}>{menu.task ? 'Open the log' : 'Open the run'}</button>}
            {!menu.group && <button type="button" onClick={() => setAction({ kind: 'clear', run: menu.run, task: menu.task })}><Icon name="clear" />Clear…</button>}
            {!menu.group && <button type="button" onClick={() => setAction({ kind: 'success', run: menu.run, task: menu.task })}><Icon name="check" />Mark success…</button>}
            {!menu.group && <button type="button" onClick={() => setAction({ kind: 'failed', run: menu.run, task: menu.task })}><Icon name="cross" />Mark failed…</button>}
          </div>
        </div>
      )}
    </div>
  );
}
