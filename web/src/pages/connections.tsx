import { useState } from 'react';
import { del, patch, post, query } from '../lib/api';
import { connTypes } from '../lib/conntypes';
import { useGet, useRefresh } from '../lib/query';
import { Confirm, Dialog, Empty, Failed, Loading, toast } from '../ui/base';
import { Icon } from '../ui/icons';
import { Pager, SearchField, useFilters } from './dags';

interface Connection {
  connection_id: string;
  conn_type: string;
  description: string | null;
  host: string | null;
  login: string | null;
  schema: string | null;
  port: number | null;
  password: string | null;
  extra: string | null;
}

const pageSize = 50;
const path = (id: string) => 'api/v2/connections/' + encodeURIComponent(id);
const none: Connection = { connection_id: '', conn_type: 'http', description: '', host: '', login: '', schema: '', port: null, password: '', extra: '' };

export default function Connections() {
  const [params, set] = useFilters();
  const offset = Number(params.get('offset') ?? 0) || 0;
  const list = useGet<{ connections: Connection[]; total_entries: number }>('api/v2/connections' + query({ connection_id_pattern: params.get('connection_id_pattern'), order_by: 'connection_id', limit: pageSize, offset }), { keep: true });
  const refresh = useRefresh();
  const [edit, setEdit] = useState<{ c: Connection; fresh: boolean } | null>(null);
  const [gone, setGone] = useState<string | null>(null);
  return (
    <div className="page">
      <h1>Connections</h1>
      <div className="filters">
        <SearchField label="Search connections" value={params.get('connection_id_pattern') ?? ''} onChange={(v) => set({ connection_id_pattern: v || null })} />
        <span className="grow" />
        <button type="button" className="btn primary" onClick={() => setEdit({ c: none, fresh: true })}><Icon name="plus" />Add connection</button>
      </div>
      {list.isError && <Failed error={list.error} />}
      {list.isPending && <Loading />}
      {list.data && list.data.connections.length === 0 && <Empty>No connections found. Those from the environment (AIRFLOW_CONN_…) and from secrets backends are not listed.</Empty>}
      {list.data && list.data.connections.length > 0 && (
        <table className="t">
          <thead><tr><th scope="col">Id</th><th scope="col">Type</th><th scope="col">Description</th><th scope="col">Host</th><th scope="col">Port</th><th scope="col"><span className="visually-hidden">Actions</span></th></tr></thead>
          <tbody>
            {list.data.connections.map((c) => (
              <tr key={c.connection_id} data-key={c.connection_id}>
                <td><b>{c.connection_id}</b></td><td>{connTypes[c.conn_type]?.label ?? c.conn_type}</td><td>{c.description}</td><td className="mono">{c.host}</td><td>{c.port}</td>
                <td className="nowrap right"><button type="button" className="btn icon" aria-label={`Edit ${c.connection_id}`} onClick={() => setEdit({ c, fresh: false })}><Icon name="edit" /></button><button type="button" className="btn icon danger" aria-label={`Delete ${c.connection_id}`} onClick={() => setGone(c.connection_id)}><Icon name="trash" /></button></td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {list.data && <Pager offset={offset} limit={pageSize} total={list.data.total_entries} onGo={(o) => set({ offset: o ? String(o) : null })} />}
      {edit && <Edit c={edit.c} fresh={edit.fresh} onClose={() => setEdit(null)} />}
      {gone !== null && <Confirm title={`Delete connection ${gone}`} action="Delete" danger onClose={() => setGone(null)} onConfirm={() => del(path(gone)).then(async () => { toast('Deleted.'); await refresh(); })}><p>Tasks that use it will fail.</p></Confirm>}
    </div>
  );
}

function Edit({ c, fresh, onClose }: { c: Connection; fresh: boolean; onClose: () => void }) {
  const refresh = useRefresh();
  const [v, setV] = useState(c);
  const [error, setError] = useState<unknown>(null);
  const type = connTypes[v.conn_type];
  let extra: Record<string, unknown> | null = {};
  try {
    const x = JSON.parse(v.extra || '{}') as unknown;
    extra = typeof x === 'object' && x !== null && !Array.isArray(x) ? (x as Record<string, unknown>) : null;
  } catch {
    extra = null;
  }
  const setExtra = (key: string, text: string) => {
    const next = Object.fromEntries(Object.entries({ ...(extra ?? {}), [key]: text }).filter(([k, x]) => k !== key || x !== ''));
    setV({ ...v, extra: Object.keys(next).length ? JSON.stringify(next, null, 2) : '' });
  };
  const submit = () => {
    const orNull = (s: string | null) => (s ? s : null);
    const body = { connection_id: v.connection_id, conn_type: v.conn_type, description: orNull(v.description), host: orNull(v.host), login: orNull(v.login), schema: orNull(v.schema), port: v.port, password: orNull(v.password), extra: orNull(v.extra) };
    (fresh ? post('api/v2/connections', body) : patch(path(c.connection_id), body)).then(async () => { toast('Connection saved.'); onClose(); await refresh(); }, setError);
  };
  const field = (k: 'host' | 'schema' | 'login' | 'password', label: string) => type?.hide?.includes(k) ? null : (
    <label className="field"><span>{type?.names?.[k] ?? label}</span><input type={k === 'password' ? 'password' : 'text'} autoComplete={k === 'password' ? 'new-password' : 'off'} value={v[k] ?? ''} onChange={(e) => setV({ ...v, [k]: e.target.value })} /></label>
  );
  return (
    <Dialog title={fresh ? 'Add connection' : `Connection ${c.connection_id}`} onClose={onClose} onSubmit={submit} footer={<><button type="button" className="btn" onClick={onClose}>Cancel</button><button className="btn primary">Save</button></>}>
      {error !== null && <Failed error={error} />}
      <label className="field"><span>Id</span><input required pattern="[\w.\-]+" maxLength={200} disabled={!fresh} value={v.connection_id} onChange={(e) => setV({ ...v, connection_id: e.target.value })} /></label>
      <label className="field"><span>Type</span>
        <input required list="conn-types" value={v.conn_type} onChange={(e) => setV({ ...v, conn_type: e.target.value })} />
        <datalist id="conn-types">{Object.entries(connTypes).map(([k, t]) => <option key={k} value={k}>{t.label}</option>)}</datalist>
      </label>
      <label className="field"><span>Description</span><input value={v.description ?? ''} onChange={(e) => setV({ ...v, description: e.target.value })} /></label>
      {field('host', 'Host')}
      {!type?.hide?.includes('port') && <label className="field"><span>Port</span><input type="number" min={0} max={65535} placeholder={type?.port ? String(type.port) : ''} value={v.port ?? ''} onChange={(e) => setV({ ...v, port: e.target.value ? Number(e.target.value) : null })} /></label>}
      {field('schema', 'Schema')}
      {field('login', 'Login')}
      {field('password', 'Password')}
      {c.password === '***' && <span className="small muted">*** keeps the stored secret.</span>}
      {extra && type?.extra?.map((x) => <label key={x.key} className="field"><span>{x.label}</span><input type={x.secret ? 'password' : 'text'} autoComplete="off" value={extra[x.key] === undefined ? '' : typeof extra[x.key] === 'string' ? (extra[x.key] as string) : JSON.stringify(extra[x.key])} onChange={(e) => setExtra(x.key, e.target.value)} /></label>)}
      <label className="field"><span>Extra (JSON)</span><textarea className="mono" rows={4} value={v.extra ?? ''} onChange={(e) => setV({ ...v, extra: e.target.value })} spellCheck={false} />{extra === null && <span className="err">Not a JSON object.</span>}</label>
    </Dialog>
  );
}
