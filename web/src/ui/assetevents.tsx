import { Link } from 'wouter';
import { to } from '../lib/api';
import { useGet } from '../lib/query';
import { Empty, Failed, Loading, show, Time } from './base';

interface AssetEvent {
  id: number;
  uri: string | null;
  name: string | null;
  source_dag_id: string | null;
  source_run_id: string | null;
  source_task_id: string | null;
  source_map_index: number;
  timestamp: string;
  extra: unknown;
  created_dagruns: { dag_id: string; run_id: string }[];
}

/** Events of assets, with where they came from and the runs they started. */
export default function AssetEvents({ path, empty }: { path: string; empty: string }) {
  const list = useGet<{ asset_events: AssetEvent[] }>(path);
  if (list.isError) return <Failed error={list.error} />;
  if (!list.data) return <Loading />;
  if (!list.data.asset_events.length) return <Empty>{empty}</Empty>;
  return (
    <table className="t">
      <thead><tr><th scope="col">When</th><th scope="col">Asset</th><th scope="col">From</th><th scope="col">Runs started</th><th scope="col">Extra</th></tr></thead>
      <tbody>
        {list.data.asset_events.map((e) => (
          <tr key={e.id}>
            <td><Time t={e.timestamp} /></td>
            <td title={e.uri ?? ''}>{e.name ?? e.uri}</td>
            <td>{e.source_dag_id && e.source_run_id && e.source_task_id ? <Link href={to.ti(e.source_dag_id, e.source_run_id, e.source_task_id, e.source_map_index)}>{e.source_dag_id}, {e.source_task_id}</Link> : 'by hand'}</td>
            <td>{(e.created_dagruns ?? []).map((r) => <div key={r.run_id}><Link href={to.run(r.dag_id, r.run_id)}>{r.dag_id}</Link></div>)}</td>
            <td className="mono">{show(e.extra) === '{}' ? '' : show(e.extra)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
