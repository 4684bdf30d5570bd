import { lazy, Suspense, useState } from 'react';
import { Link } from 'wouter';
import { post, query, to } from '../lib/api';
import { useGet, useRefresh } from '../lib/query';
import { Dialog, Empty, Facts, Failed, Loading, show, Time, toast } from '../ui/base';
import { Icon } from '../ui/icons';
import { Pager, SearchField, useFilters } from './dags';

const AssetEvents = lazy(() => import('../ui/assetevents'));

interface Asset {
  id: number;
  name: string;
  uri: string;
  group: string;
  extra: unknown;
  scheduled_dags: { dag_id: string }[];
  producing_tasks: { dag_id: string; task_id: string }[];
  consuming_tasks?: { dag_id: string; task_id: string }[];
  aliases: { name: string }[];
  last_asset_event: { timestamp: string | null } | null;
}

const pageSize = 50;

export default function Assets({ id }: { id: string | undefined }) {
  return id ? <One id={id} /> : <All />;
}

function All() {
  const [params, set] = useFilters();
  const offset = Number(params.get('offset') ?? 0) || 0;
  const list = useGet<{ assets: Asset[]; total_entries: number }>('api/v2/assets' + query({ name_pattern: params.get('name_pattern'), order_by: 'name', limit: pageSize, offset }), { keep: true });
  return (
    <div className="page">
      <h1>Assets</h1>
      <div className="filters" role="search"><SearchField label="Search assets" value={params.get('name_pattern') ?? ''} onChange={(v) => set({ name_pattern: v || null })} /></div>
      {list.isError && <Failed error={list.error} />}
      {list.isPending && <Loading />}
      {list.data && list.data.assets.length === 0 && <Empty>No assets found.</Empty>}
      {list.data && list.data.assets.length > 0 && (
        <table className="t">
          <thead><tr><th scope="col">Asset</th><th scope="col">Last event</th><th scope="col">Group</th><th scope="col">Made by</th><th scope="col">Starts</th></tr></thead>
          <tbody>{list.data.assets.map((a) => <tr key={a.id}><td><Link href={`/assets/${a.id}`}><b>{a.name}</b></Link> <span className="muted small mono">{a.uri !== a.name && a.uri}</span></td><td><Time t={a.last_asset_event?.timestamp} /></td><td>{a.group}</td><td>{a.producing_tasks.map((t) => <div key={t.dag_id + t.task_id}><Link href={to.dag(t.dag_id)}>{t.dag_id}</Link>, {t.task_id}</div>)}</td><td>{a.scheduled_dags.map((d) => <div key={d.dag_id}><Link href={to.dag(d.dag_id)}>{d.dag_id}</Link></div>)}</td></tr>)}</tbody>
        </table>
      )}
      {list.data && <Pager offset={offset} limit={pageSize} total={list.data.total_entries} onGo={(o) => set({ offset: o ? String(o) : null })} />}
    </div>
  );
}

function One({ id }: { id: string }) {
  const asset = useGet<Asset>('api/v2/assets/' + encodeURIComponent(id));
  const [making, setMaking] = useState(false);
  if (asset.isError) return <div className="page"><Failed error={asset.error} /></div>;
  const a = asset.data;
  if (!a) return <Loading />;
  return (
    <div className="page">
      <div className="row"><h1 className="grow">{a.name}</h1><button type="button" className="btn primary" onClick={() => setMaking(true)}><Icon name="plus" />Create event</button></div>
      <Facts items={[['URI', <span key="u" className="mono">{a.uri}</span>], ['Group', a.group], ['Last event', a.last_asset_event?.timestamp && <Time t={a.last_asset_event.timestamp} />], ['Aliases', a.aliases.map((x) => x.name).join(', ')], ['Extra', show(a.extra) === '{}' ? '' : show(a.extra)]]} />
      <section className="card" aria-label="What makes it and what it starts">
        <div className="row wrap" style={{ gap: 20, alignItems: 'stretch' }}>
          <div className="stack"><span className="muted small">Made by</span>{a.producing_tasks.map((t) => <Link key={t.dag_id + t.task_id} className="pill" href={to.dag(t.dag_id, 'tasks/' + encodeURIComponent(t.task_id))}>{t.dag_id}, {t.task_id} →</Link>)}{!a.producing_tasks.length && <span className="muted">no task</span>}</div>
          <div className="stack" style={{ justifyContent: 'center' }}><span className="pill good"><Icon name="assets" /><b>{a.name}</b></span></div>
          <div className="stack"><span className="muted small">Starts</span>{a.scheduled_dags.map((d) => <Link key={d.dag_id} className="pill" href={to.dag(d.dag_id)}>→ {d.dag_id}</Link>)}{!a.scheduled_dags.length && <span className="muted">no DAG</span>}</div>
        </div>
      </section>
      <h2>Events</h2>
      <Suspense fallback={<Loading />}><AssetEvents path={'api/v2/assets/events' + query({ asset_id: id, order_by: '-timestamp', limit: 50 })} empty="No events yet." /></Suspense>
      {making && <Create asset={a} onClose={() => setMaking(false)} />}
    </div>
  );
}

function Create({ asset, onClose }: { asset: Asset; onClose: () => void }) {
  const refresh = useRefresh();
  const [how, setHow] = useState<'event' | 'run'>('event');
  const [extra, setExtra] = useState('{}');
  const [error, setError] = useState<unknown>(null);
  const submit = async () => {
    try {
      if (how === 'run') await post(`api/v2/assets/${asset.id}/materialize`, {});
      else {
        let value: unknown;
        try {
          value = JSON.parse(extra || '{}');
        } catch {
          throw new Error('Extra is not valid JSON.');
        }
        await post('api/v2/assets/events', { asset_id: asset.id, extra: value });
      }
      toast(how === 'run' ? 'The run that makes it is triggered.' : 'Event created.');
      onClose();
      await refresh();
    } catch (e) {
      setError(e);
    }
  };
  return (
    <Dialog title={`Create an event of ${asset.name}`} onClose={onClose} onSubmit={() => void submit()} footer={<><button type="button" className="btn" onClick={onClose}>Cancel</button><button className="btn primary">Create</button></>}>
      {error !== null && <Failed error={error} />}
      <div className="checks"><label><input type="radio" checked={how === 'event'} onChange={() => setHow('event')} />An event by hand</label><label><input type="radio" disabled={asset.producing_tasks.length === 0} checked={how === 'run'} onChange={() => setHow('run')} />By running the DAG that makes it</label></div>
      {how === 'event' && <label className="field"><span>Extra (JSON)</span><textarea className="mono" rows={4} value={extra} onChange={(e) => setExtra(e.target.value)} /></label>}
    </Dialog>
  );
}
