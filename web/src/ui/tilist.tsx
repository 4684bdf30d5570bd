import { Link } from 'wouter';
import { query, to } from '../lib/api';
import { useGet } from '../lib/query';
import { stateLabel, taskStates, unfinished } from '../lib/states';
import { shortDuration } from '../lib/time';
import type { TaskInstance } from '../lib/types';
import { Pager, SearchField, useFilters } from '../pages/dags';
import { Empty, Failed, Loading, Time } from './base';
import { Since } from './runlist';
import { StateBadge } from './state';

const pageSize = 50;

/** Task instances across runs, of one task or of all DAGs. */
export default function TaskInstanceList({ dag = '~', task }: { dag?: string; task?: string }) {
  const [params, set] = useFilters();
  const order = params.get('sort') ?? '-start_date';
  const offset = Number(params.get('offset') ?? 0) || 0;
  const list = useGet<{ task_instances: TaskInstance[]; total_entries: number }>(
    `api/v2/dags/${encodeURIComponent(dag)}/dagRuns/~/taskInstances` +
      query({
        task_id: task, state: params.getAll('state'), dag_id_pattern: params.get('dag_id_pattern'), task_display_name_pattern: params.get('task_display_name_pattern'), run_id_pattern: params.get('run_id_pattern'), pool: params.getAll('pool'), operator: params.getAll('operator'),
        start_date_gte: params.get('start_date_gte'), order_by: order, limit: pageSize, offset,
      }),
    { keep: true, pending: (d) => d.task_instances.some((t) => unfinished(t.state)) },
  );
  const rows = list.data?.task_instances ?? [];
  const head = (k: string, label: string) => <th scope="col" aria-sort={order === k ? 'ascending' : order === '-' + k ? 'descending' : 'none'}><button type="button" onClick={() => set({ sort: order === '-' + k ? k : '-' + k })}>{label}{order === k ? ' ↑' : order === '-' + k ? ' ↓' : ''}</button></th>;
  return (
    <div className="stack">
      <div className="filters" role="search">
        {!task && <SearchField label="Search tasks" value={params.get('task_display_name_pattern') ?? ''} onChange={(v) => set({ task_display_name_pattern: v || null })} />}
        {dag === '~' && <input type="search" style={{ maxWidth: 180 }} aria-label="DAG id" placeholder="DAG id" defaultValue={params.get('dag_id_pattern') ?? ''} onBlur={(e) => set({ dag_id_pattern: e.target.value || null })} onKeyDown={(e) => { if (e.key === 'Enter') set({ dag_id_pattern: e.currentTarget.value || null }); }} />}
        <select aria-label="State" value={params.get('state') ?? ''} onChange={(e) => set({ state: e.target.value || null })}><option value="">Any state</option>{taskStates.map((s) => <option key={s} value={s}>{stateLabel(s)}</option>)}</select>
        <Since value={params.get('start_date_gte') ?? ''} onChange={(v) => set({ start_date_gte: v })} />
        {list.data && <span role="status">{list.data.total_entries} task instances</span>}
      </div>
      {list.isError && <Failed error={list.error} />}
      {list.isPending && <Loading />}
      {list.data && rows.length === 0 && <Empty>No task instances match.</Empty>}
      {rows.length > 0 && (
        <div className="scroll" tabIndex={0} role="region" aria-label="Task instances">
          <table className="t dense">
            <thead><tr>{dag === '~' && <th scope="col">Dag</th>}{!task && <th scope="col">Task</th>}<th scope="col">Run</th><th scope="col">State</th>{head('start_date', 'Start')}{head('duration', 'Duration')}<th scope="col">Try</th><th scope="col" className="hide-narrow">Operator</th></tr></thead>
            <tbody>
              {rows.map((t) => (
                <tr key={`${t.dag_id}/${t.dag_run_id}/${t.task_id}/${t.map_index}`}>
                  {dag === '~' && <td><Link href={to.dag(t.dag_id)}>{t.dag_display_name}</Link></td>}
                  {!task && <td><Link href={to.ti(t.dag_id, t.dag_run_id, t.task_id, t.map_index)}>{t.task_id}{t.map_index >= 0 && ` [${t.map_index}]`}</Link></td>}
                  <td><Link href={task ? to.ti(t.dag_id, t.dag_run_id, t.task_id, t.map_index) : to.run(t.dag_id, t.dag_run_id)}><Time t={t.run_after} /></Link>{task && t.map_index >= 0 && ` [${t.map_index}]`}</td>
                  <td><StateBadge state={t.state} /></td><td><Time t={t.start_date} /></td><td className="nowrap">{shortDuration(t.duration)}</td><td>{t.try_number || ''}</td><td className="hide-narrow">{t.operator_name ?? t.operator}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {list.data && <Pager offset={offset} limit={pageSize} total={list.data.total_entries} onGo={(o) => set({ offset: o ? String(o) : null })} />}
    </div>
  );
}
