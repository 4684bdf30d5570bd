import { Link } from 'wouter';
import { query, to } from '../lib/api';
import { useGet } from '../lib/query';
import { Empty, Failed, Loading, Time } from '../ui/base';
import { Pager, SearchField, useFilters } from './dags';

interface Entry {
  key: string;
  dag_id: string;
  run_id: string;
  task_id: string;
  map_index: number;
  timestamp: string;
}

const pageSize = 50;

/** XComs across DAGs: keys and where they come from; the value is one click away, with its task instance. */
export default function XcomsPage() {
  const [params, set] = useFilters();
  const offset = Number(params.get('offset') ?? 0) || 0;
  const list = useGet<{ xcom_entries: Entry[]; total_entries: number }>(
    'api/v2/dags/~/dagRuns/~/taskInstances/~/xcomEntries' + query({ xcom_key_pattern: params.get('xcom_key_pattern'), dag_display_name_pattern: params.get('dag_display_name_pattern'), task_id_pattern: params.get('task_id_pattern'), run_id_pattern: params.get('run_id_pattern'), limit: pageSize, offset }),
    { keep: true },
  );
  return (
    <div className="page">
      <h1>XComs</h1>
      <div className="filters" role="search">
        <SearchField label="Search keys" value={params.get('xcom_key_pattern') ?? ''} onChange={(v) => set({ xcom_key_pattern: v || null })} />
        <SearchField label="Search DAGs" value={params.get('dag_display_name_pattern') ?? ''} onChange={(v) => set({ dag_display_name_pattern: v || null })} />
        <SearchField label="Search tasks" value={params.get('task_id_pattern') ?? ''} onChange={(v) => set({ task_id_pattern: v || null })} />
      </div>
      {list.isError && <Failed error={list.error} />}
      {list.isPending && <Loading />}
      {list.data && list.data.xcom_entries.length === 0 && <Empty>No XComs found.</Empty>}
      {list.data && list.data.xcom_entries.length > 0 && (
        <table className="t dense">
          <thead><tr><th scope="col">Key</th><th scope="col">Dag</th><th scope="col">Run</th><th scope="col">Task</th><th scope="col">When</th></tr></thead>
          <tbody>{list.data.xcom_entries.map((x) => <tr key={`${x.dag_id}/${x.run_id}/${x.task_id}/${x.map_index}/${x.key}`}><td><Link href={to.ti(x.dag_id, x.run_id, x.task_id, x.map_index, 'xcom')}>{x.key}</Link></td><td><Link href={to.dag(x.dag_id)}>{x.dag_id}</Link></td><td><Link href={to.run(x.dag_id, x.run_id)}>{x.run_id}</Link></td><td>{x.task_id}{x.map_index >= 0 && ` [${x.map_index}]`}</td><td><Time t={x.timestamp} /></td></tr>)}</tbody>
        </table>
      )}
      {list.data && <Pager offset={offset} limit={pageSize} total={list.data.total_entries} onGo={(o) => set({ offset: o ? String(o) : null })} />}
    </div>
  );
}
