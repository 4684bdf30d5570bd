import { useEffect, useMemo, useState } from 'react';
import { useLocation } from 'wouter';
import { api, query, to } from '../lib/api';
import { useGet } from '../lib/query';
import type { DagList, DagRun } from '../lib/types';
import { useSession } from '../lib/session';
import { Dialog } from './base';
import { StateDot } from './state';

const pages: [string, string][] = [
  ['Home', '/'], ['Dags', '/dags'], ['Dag runs', '/dag_runs'], ['Failed runs', '/dag_runs?state=failed'], ['Task instances', '/task_instances'], ['Failed task instances', '/task_instances?state=failed'], ['Assets', '/assets'], ['Variables', '/variables'],
  ['Connections', '/connections'], ['Pools', '/pools'], ['Audit log', '/events'], ['Import errors', '/import_errors'], ['XComs', '/xcoms'], ['Required actions', '/required_actions'], ['Jobs', '/jobs'], ['Config', '/configs'], ['Providers', '/providers'], ['Plugins', '/plugins'],
];

const optional = new Set(['/assets', '/variables', '/connections', '/pools', '/events', '/import_errors', '/xcoms', '/required_actions', '/jobs', '/configs', '/providers', '/plugins']);

interface Item {
  key: string;
  label: string;
  hint: string;
  href: string;
  state?: string;
}

/** Ctrl+K: DAGs, runs and pages by a part of their name. */
export default function Palette({ onClose }: { onClose: () => void }) {
  const [, go] = useLocation();
  const [text, setText] = useState('');
  const [asked, setAsked] = useState('');
  const [at, setAt] = useState(0);
  const { has } = useSession();
  useEffect(() => {
    const id = setTimeout(() => setAsked(text.trim()), 150);
    return () => clearTimeout(id);
  }, [text]);
  const dags = useGet<DagList>('ui/dags' + query({ name: asked, limit: 12, runs: 1 }), { keep: true });
  const runs = useGet<{ dag_runs: DagRun[] }>(api.dag('~') + '/dagRuns' + query({ run_id_pattern: asked, limit: 6, order_by: '-run_after' }), { enabled: asked.length > 2, keep: true });
  const served = [...optional].map((p) => p.slice(1)).filter(has);
  const servedKey = served.join();
  const items = useMemo(() => {
    const want = text.trim().toLowerCase();
    const served = servedKey.split(',');
    const out: Item[] = [];
    for (const d of dags.data?.dags ?? []) out.push({ key: 'd' + d.dag_id, label: d.dag_display_name, hint: 'Dag', href: to.dag(d.dag_id), ...(d.recent_runs[0] ? { state: d.recent_runs[0].state } : {}) });
    for (const [label, href] of pages) if (label.toLowerCase().includes(want) && (!optional.has(href) || served.includes(href.slice(1)))) out.push({ key: 'p' + href, label, hint: 'Page', href });
    if (asked.length > 2) for (const r of runs.data?.dag_runs ?? []) out.push({ key: 'r' + r.dag_id + r.dag_run_id, label: r.dag_run_id, hint: r.dag_id, href: to.run(r.dag_id, r.dag_run_id), state: r.state });
    return out;
  }, [dags.data, runs.data, text, asked, servedKey]);
  const index = Math.min(at, Math.max(0, items.length - 1));
  const open = (i: Item | undefined) => {
    if (!i) return;
    onClose();
    go(i.href);
  };
  return (
    <Dialog title="Go to" onClose={onClose}>
      <div className="palette" style={{ margin: '-12px -16px' }}>
        <input
          autoFocus role="combobox" aria-expanded="true" aria-controls="palette-list" aria-activedescendant={items[index] ? 'palette-' + index : undefined} aria-label="DAG, run or page" placeholder="DAG, run or page" value={text}
          onChange={(e) => { setText(e.target.value); setAt(0); }}
          onKeyDown={(e) => {
            if (e.key === 'ArrowDown') setAt(Math.min(index + 1, items.length - 1));
            else if (e.key === 'ArrowUp') setAt(Math.max(index - 1, 0));
            else if (e.key === 'Enter') open(items[index]);
            else return;
            e.preventDefault();
          }}
        />
        <ul id="palette-list" role="listbox" aria-label="Found">
          {items.map((i, n) => (
            <li key={i.key} id={'palette-' + n} role="option" aria-selected={n === index} onMouseMove={() => setAt(n)} onClick={() => open(i)}>
              {i.state ? <StateDot state={i.state} /> : <span style={{ width: 14 }} />}
              <span className="grow clip">{i.label}</span><span className="muted small">{i.hint}</span>
            </li>
          ))}
        </ul>
      </div>
    </Dialog>
  );
}
