import { lazy, Suspense, useEffect, useRef, useState } from 'react';
import { Link, useSearchParams } from 'wouter';
import { query, to } from '../lib/api';
import { useShortcuts } from '../lib/keys';
import { useGet } from '../lib/query';
import { runStates, stateLabel } from '../lib/states';
import type { DagList } from '../lib/types';
import { Empty, Failed, Loading, Menu, Time } from '../ui/base';
import { PauseSwitch, RunBars } from '../ui/dagbits';
import { Icon } from '../ui/icons';
import { StateDot } from '../ui/state';

const TriggerDialog = lazy(() => import('../ui/trigger'));

export const listTabs = [
  { key: 'dags', label: 'Dags', href: '/dags' },
  { key: 'runs', label: 'Dag runs', href: '/dag_runs' },
  { key: 'tis', label: 'Task instances', href: '/task_instances' },
];

const pageSize = 50;

export function ListTabs({ current }: { current: string }) {
  return (
    <nav className="tabs" aria-label="Lists">
      {listTabs.map((t) => <Link key={t.key} href={t.href} className={t.key === current ? 'on' : ''} aria-current={t.key === current ? 'page' : undefined}>{t.label}</Link>)}
    </nav>
  );
}

/** A search field that writes to the URL a moment after the last key. */
export function SearchField({ label, value, onChange, autoFocus }: { label: string; value: string; onChange: (v: string) => void; autoFocus?: boolean }) {
  const [text, setText] = useState(value);
  const [seen, setSeen] = useState(value);
  const ref = useRef<HTMLInputElement>(null);
  if (value !== seen) {
    setSeen(value);
    setText(value);
  }
  useEffect(() => {
    if (text === value) return;
    const id = setTimeout(() => onChange(text), 250);
    return () => clearTimeout(id);
  });
  useShortcuts([{ keys: '/', does: label, run: () => ref.current?.focus() }]);
  return <input ref={ref} type="search" aria-label={label} placeholder={label} value={text} autoFocus={autoFocus} onChange={(e) => setText(e.target.value)} />;
}

/** Page buttons of a list. */
export function Pager({ offset, limit, total, onGo }: { offset: number; limit: number; total: number; onGo: (offset: number) => void }) {
  if (total <= limit && offset === 0) return null;
  return (
    <div className="row" role="navigation" aria-label="Pages">
      <button type="button" className="btn" disabled={offset === 0} onClick={() => onGo(Math.max(0, offset - limit))}>Previous</button>
      <span className="muted">{offset + 1}–{Math.min(offset + limit, total)} of {total}</span>
      <button type="button" className="btn" disabled={offset + limit >= total} onClick={() => onGo(offset + limit)}>Next</button>
    </div>
  );
}

/** The filters of a view, kept in its address. */
export function useFilters(): [URLSearchParams, (changes: Record<string, string | string[] | null>) => void] {
  const [params, setParams] = useSearchParams();
  return [
    params,
    (changes) =>
      setParams(
        (old) => {
          const next = new URLSearchParams(old);
          if (!('offset' in changes)) next.delete('offset');
          for (const [k, v] of Object.entries(changes)) {
            next.delete(k);
            if (Array.isArray(v)) v.forEach((x) => next.append(k, x));
            else if (v) next.set(k, v);
          }
          return next;
        },
        { replace: true },
      ),
  ];
}

export function DagsPage({ onSearch }: { onSearch: () => void }) {
  const [params, set] = useFilters();
  const [triggering, setTriggering] = useState<string | null>(null);
  const name = params.get('name_pattern') ?? params.get('name') ?? '';
  const tags = params.getAll('tags');
  const mode = params.get('tags_match_mode') ?? 'any';
  const paused = params.get('paused') ?? '';
  const state = params.get('last_dag_run_state') ?? '';
  const order = params.get('sort') ?? 'dag_id';
  const offset = Number(params.get('offset') ?? 0) || 0;
  const list = useGet<DagList>(
    'ui/dags' + query({ name, tags, tags_match_mode: mode === 'all' ? 'all' : null, paused: paused === 'all' ? null : paused, last_dag_run_state: state, order_by: order, owners: params.getAll('owners'), limit: pageSize, offset }),
    { keep: true, pending: (d) => d.dags.some((x) => x.recent_runs.some((r) => r.state === 'running' || (r.state === 'queued' && !x.is_paused))) },
  );
  const d = list.data;
  const head = (key: string, label: string) => {
    const desc = order === '-' + key;
    const on = desc || order === key;
    return (
      <th scope="col" aria-sort={on ? (desc ? 'descending' : 'ascending') : 'none'}>
        <button type="button" onClick={() => set({ sort: on && !desc ? '-' + key : key })}>{label}{on ? (desc ? ' ↓' : ' ↑') : ''}</button>
      </th>
    );
  };
  const toggleTag = (t: string) => set({ tags: tags.includes(t) ? tags.filter((x) => x !== t) : [...tags, t] });
  return (
    <div className="page">
      <h1 className="visually-hidden">Dags</h1>
      <ListTabs current="dags" />
      <div className="filters" role="search">
        <SearchField label="Search Dags" value={name} onChange={(v) => set({ name_pattern: v || null, name: null })} />
        <span className="seg" role="group" aria-label="Active or paused">
          {[['', 'All', d?.counts.all], ['false', 'Active', d?.counts.active], ['true', 'Paused', d?.counts.paused]].map(([v, l, n]) => (
            <button type="button" key={String(l)} className="btn" aria-pressed={(paused === 'all' ? '' : paused) === v} onClick={() => set({ paused: v ? String(v) : null })}>{l} {n !== undefined && <span className="small">{n}</span>}</button>
          ))}
        </span>
        <select aria-label="State of the last run" value={state} onChange={(e) => set({ last_dag_run_state: e.target.value || null })}>
          <option value="">Last run: any state</option>
          {runStates.map((s) => <option key={s} value={s}>Last run: {stateLabel(s)}</option>)}
        </select>
        {(d?.tags.length ?? 0) > 0 && (
          <Menu label={tags.length > 0 ? `Tags ${tags.length}` : 'Tags'} button={<>Tags{tags.length > 0 && <b> {tags.length}</b>}<Icon name="down" /></>}>
            <div data-stay>
              <button type="button" onClick={() => set({ tags_match_mode: mode === 'all' ? null : 'all' })}>{mode === 'all' ? '☑' : '☐'} all of them</button>
              <hr />
              {d?.tags.map((t) => <button type="button" key={t} aria-pressed={tags.includes(t)} onClick={() => toggleTag(t)}>{tags.includes(t) ? '☑' : '☐'} {t}</button>)}
            </div>
          </Menu>
        )}
        {tags.map((t) => <button type="button" key={t} className="tag on" onClick={() => toggleTag(t)} aria-label={`Remove tag filter ${t}`}>{t} ✕</button>)}
        {d && <span role="status"><b>{d.total_entries}</b> {d.total_entries === 1 ? 'Dag' : 'Dags'}</span>}
        <span className="grow" />
        <button type="button" className="btn hide-narrow" onClick={onSearch}><Icon name="search" />Go to <kbd>Ctrl+K</kbd></button>
      </div>
      {list.isError && <Failed error={list.error} />}
      {list.isPending && <Loading />}
      {d && (
        <>
          {d.truncated && <p className="notice warn">Only the first 5,000 Dags are searched.</p>}
          {d.dags.length === 0 ? (
            <Empty>No Dags {params.size > 0 ? 'match these filters' : 'yet: put a YAML file into the DAG folder'}.</Empty>
          ) : (
            <div className="scroll" tabIndex={0} role="region" aria-label="Dags">
              <table className="t dense dags">
                <thead>
                  <tr>
                    <th scope="col"><span className="visually-hidden">Active</span></th>
                    {head('dag_id', 'Dag')}
                    <th scope="col" className="hide-narrow">Schedule</th>
                    <th scope="col">Last runs</th>
                    {head('last_run', 'Last run')}
                    <th scope="col" className="hide-narrow" aria-sort={order.endsWith('next_dagrun') ? (order.startsWith('-') ? 'descending' : 'ascending') : 'none'}>
                      <button type="button" onClick={() => set({ sort: order === 'next_dagrun' ? '-next_dagrun' : 'next_dagrun' })}>Next run</button>
                    </th>
                    <th scope="col"><span className="visually-hidden">Actions</span></th>
                  </tr>
                </thead>
                <tbody>
                  {d.dags.map((x) => {
                    const last = x.recent_runs[0];
                    return (
                      <tr key={x.dag_id} data-dag={x.dag_id}>
                        <td><PauseSwitch dag={x.dag_id} paused={x.is_paused} /></td>
                        <td>
                          <div className="row" style={{ gap: 6 }}>
                            <Link href={to.dag(x.dag_id)} title={x.description || x.dag_id} className="clip"><b>{x.dag_display_name}</b></Link>
                            {x.has_import_errors && <Link href="/import_errors" className="pill bad">import error</Link>}
                            <span className="row hide-narrow" style={{ gap: 3 }}>
                              {x.tags.slice(0, 4).map((t) => <button type="button" key={t} className={tags.includes(t) ? 'tag on' : 'tag'} onClick={() => toggleTag(t)} aria-label={`Filter by tag ${t}`}>{t}</button>)}
                              {x.tags.length > 4 && <span className="small muted" title={x.tags.slice(4).join(', ')}>+{x.tags.length - 4}</span>}
                            </span>
                          </div>
                        </td>
                        <td className="nowrap hide-narrow" title={x.timetable_description}>{x.timetable_summary && x.timetable_summary !== 'None' && <span className="mono">{x.timetable_summary}</span>}</td>
                        <td><RunBars dag={x.dag_id} runs={x.recent_runs} /></td>
                        <td className="nowrap">{last && <span className="row" style={{ gap: 6 }}><StateDot state={last.state} /><Link href={to.run(x.dag_id, last.run_id)}><Time t={last.run_after} /></Link></span>}</td>
                        <td className="hide-narrow">{!x.is_paused && <Time t={x.next_dagrun_run_after} />}</td>
                        <td className="right"><button type="button" className="btn icon" aria-label={`Trigger ${x.dag_id}`} title="Trigger" onClick={() => setTriggering(x.dag_id)}><Icon name="play" /></button></td>
                      </tr>
                    );
                  })}
                </tbody>
              </table>
            </div>
          )}
          <Pager offset={offset} limit={pageSize} total={d.total_entries} onGo={(o) => set({ offset: o ? String(o) : null })} />
        </>
      )}
      <Suspense fallback={null}>{triggering && <TriggerDialog dag={triggering} onClose={() => setTriggering(null)} />}</Suspense>
    </div>
  );
}
