import { useState } from 'react';
import { Link } from 'wouter';
import { del, patch, post, query } from '../lib/api';
import { useGet, useRefresh } from '../lib/query';
import { Confirm, Dialog, Failed, Loading, toast } from '../ui/base';
import { Icon } from '../ui/icons';
import { SearchField, useFilters } from './dags';

interface Pool {
  name: string;
  slots: number;
  description: string | null;
  include_deferred: boolean;
  occupied_slots: number;
  running_slots: number;
  queued_slots: number;
  scheduled_slots: number;
  deferred_slots: number;
  open_slots: number;
}

const path = (name: string) => 'api/v2/pools/' + encodeURIComponent(name);
const kinds = ['running', 'queued', 'deferred', 'scheduled'] as const;

export default function Pools() {
  const [params, set] = useFilters();
  const list = useGet<{ pools: Pool[] }>('api/v2/pools' + query({ pool_name_pattern: params.get('pool_name_pattern'), order_by: 'name', limit: 100 }), { keep: true, pending: (d) => d.pools.some((p) => p.occupied_slots > 0 || p.scheduled_slots > 0) });
  const refresh = useRefresh();
  const [edit, setEdit] = useState<{ p: Pool | null } | null>(null);
  const [gone, setGone] = useState<string | null>(null);
  return (
    <div className="page">
      <h1>Pools</h1>
      <div className="filters"><SearchField label="Search pools" value={params.get('pool_name_pattern') ?? ''} onChange={(v) => set({ pool_name_pattern: v || null })} /><span className="grow" /><button type="button" className="btn primary" onClick={() => setEdit({ p: null })}><Icon name="plus" />Add pool</button></div>
      {list.isError && <Failed error={list.error} />}
      {list.isPending && <Loading />}
      {list.data && (
        <table className="t">
          <thead><tr><th scope="col">Pool</th><th scope="col">Slots</th><th scope="col" style={{ minWidth: 160 }}>Use</th><th scope="col">Running</th><th scope="col">Queued</th><th scope="col">Deferred</th><th scope="col">Scheduled</th><th scope="col">Open</th><th scope="col" className="hide-narrow">Description</th><th scope="col"><span className="visually-hidden">Actions</span></th></tr></thead>
          <tbody>
            {list.data.pools.map((p) => (
              <tr key={p.name} data-key={p.name}>
                <td><b>{p.name}</b></td><td>{p.slots < 0 ? 'no limit' : p.slots}</td>
                <td><span className="poolbar" role="img" aria-label={`${p.occupied_slots} of ${p.slots} slots taken`}>{kinds.map((k) => <i key={k} style={{ width: `${p.slots > 0 ? (100 * p[`${k}_slots`]) / p.slots : 0}%`, background: `var(--s-${k})` }} />)}</span></td>
                {kinds.map((k) => <td key={k}>{p[`${k}_slots`] ? <Link href={'/task_instances' + query({ pool: p.name, state: k })}>{p[`${k}_slots`]}</Link> : 0}</td>)}
                <td>{p.open_slots < 0 ? '∞' : p.open_slots}</td><td className="hide-narrow">{p.description}{p.include_deferred && <span className="muted small"> deferred count</span>}</td>
                <td className="nowrap right"><button type="button" className="btn icon" aria-label={`Edit ${p.name}`} onClick={() => setEdit({ p })}><Icon name="edit" /></button>{p.name !== 'default_pool' && <button type="button" className="btn icon danger" aria-label={`Delete ${p.name}`} onClick={() => setGone(p.name)}><Icon name="trash" /></button>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {edit && <Edit p={edit.p} onClose={() => setEdit(null)} />}
      {gone !== null && <Confirm title={`Delete pool ${gone}`} action="Delete" danger onClose={() => setGone(null)} onConfirm={() => del(path(gone)).then(async () => { toast('Deleted.'); await refresh(); })}><p>Tasks of this pool will not be scheduled any more.</p></Confirm>}
    </div>
  );
}

function Edit({ p, onClose }: { p: Pool | null; onClose: () => void }) {
  const refresh = useRefresh();
  const [name, setName] = useState(p?.name ?? '');
  const [slots, setSlots] = useState(String(p?.slots ?? 8));
  const [description, setDescription] = useState(p?.description ?? '');
  const [deferred, setDeferred] = useState(p?.include_deferred ?? false);
  const [error, setError] = useState<unknown>(null);
  const submit = () => {
    const rest = { slots: Number(slots), include_deferred: deferred, description };
    (p ? patch(path(p.name) + (p.name === 'default_pool' ? '?update_mask=slots&update_mask=include_deferred' : ''), { pool: p.name, ...rest }) : post('api/v2/pools', { name, ...rest })).then(async () => { toast('Pool saved.'); onClose(); await refresh(); }, setError);
  };
  return (
    <Dialog title={p ? `Pool ${p.name}` : 'Add pool'} onClose={onClose} onSubmit={submit} footer={<><button type="button" className="btn" onClick={onClose}>Cancel</button><button className="btn primary">Save</button></>}>
      {error !== null && <Failed error={error} />}
      <label className="field"><span>Name</span><input required maxLength={256} disabled={p !== null} value={name} onChange={(e) => setName(e.target.value)} /></label>
      <label className="field"><span>Slots</span><input type="number" required min={-1} value={slots} onChange={(e) => setSlots(e.target.value)} /><span className="small muted">-1: no limit.</span></label>
      <label className="check"><input type="checkbox" checked={deferred} onChange={(e) => setDeferred(e.target.checked)} />Deferred tasks count</label>
      <label className="field"><span>Description</span><textarea rows={2} disabled={p?.name === 'default_pool'} value={description} onChange={(e) => setDescription(e.target.value)} /></label>
    </Dialog>
  );
}
