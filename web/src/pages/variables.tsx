import { useRef, useState } from 'react';
import { call, del, get, patch, post, query } from '../lib/api';
import { useGet, useRefresh } from '../lib/query';
import { Confirm, Dialog, Empty, Failed, Loading, save, toast, toastError } from '../ui/base';
import { Icon } from '../ui/icons';
import { Pager, SearchField, useFilters } from './dags';

interface Variable {
  key: string;
  value: string;
  description: string | null;
  is_encrypted: boolean;
}
interface List {
  variables: Variable[];
  total_entries: number;
}

const pageSize = 50;
const path = (key: string) => 'api/v2/variables/' + encodeURIComponent(key);

export default function Variables() {
  const [params, set] = useFilters();
  const offset = Number(params.get('offset') ?? 0) || 0;
  const list = useGet<List>('api/v2/variables' + query({ variable_key_pattern: params.get('variable_key_pattern'), order_by: 'key', limit: pageSize, offset }), { keep: true });
  const refresh = useRefresh();
  const [edit, setEdit] = useState<{ v: Variable; fresh: boolean } | null>(null);
  const [gone, setGone] = useState<string[] | null>(null);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [importing, setImporting] = useState<Record<string, unknown> | null>(null);
  const file = useRef<HTMLInputElement>(null);

  const doExport = async () => {
    const out: Record<string, string> = {};
    for (let o = 0; ; o += 100) {
      const page = await get<List>('api/v2/variables' + query({ order_by: 'key', limit: 100, offset: o }));
      for (const v of page.variables) out[v.key] = v.value;
      if (o + 100 >= page.total_entries) break;
    }
    save('variables.json', JSON.stringify(out, null, 2) + '\n', 'application/json');
    toast('Exported. Secret values are written as ***.');
  };
  const read = async (f: File | undefined) => {
    if (!f) return;
    try {
      const v = JSON.parse(await f.text()) as unknown;
      if (typeof v !== 'object' || v === null || Array.isArray(v)) throw new Error('Expected an object of keys and values.');
      setImporting(v as Record<string, unknown>);
    } catch (e) {
      toastError(e);
    }
  };
  return (
    <div className="page">
      <h1>Variables</h1>
      <div className="filters">
        <SearchField label="Search keys" value={params.get('variable_key_pattern') ?? ''} onChange={(v) => set({ variable_key_pattern: v || null })} />
        <span className="grow" />
        <input ref={file} type="file" accept="application/json,.json" hidden onChange={(e) => { void read(e.target.files?.[0]); e.target.value = ''; }} />
        <button type="button" className="btn" onClick={() => file.current?.click()}><Icon name="upload" />Import</button>
        <button type="button" className="btn" onClick={() => { doExport().catch(toastError); }}><Icon name="download" />Export</button>
        <button type="button" className="btn primary" onClick={() => setEdit({ v: { key: '', value: '', description: '', is_encrypted: false }, fresh: true })}><Icon name="plus" />Add variable</button>
      </div>
      {list.isError && <Failed error={list.error} />}
      {list.isPending && <Loading />}
      {list.data && list.data.variables.length === 0 && <Empty>No variables found.</Empty>}
      {list.data && list.data.variables.length > 0 && (
        <table className="t">
          <thead><tr><th scope="col"><span className="visually-hidden">Choose</span></th><th scope="col">Key</th><th scope="col">Value</th><th scope="col">Description</th><th scope="col">Encrypted</th><th scope="col"><span className="visually-hidden">Actions</span></th></tr></thead>
          <tbody>
            {list.data.variables.map((v) => (
              <tr key={v.key} data-key={v.key}>
                <td><input type="checkbox" aria-label={`Choose ${v.key}`} checked={chosen.has(v.key)} onChange={() => { const n = new Set(chosen); if (!n.delete(v.key)) n.add(v.key); setChosen(n); }} /></td>
                <td><b>{v.key}</b></td><td className="mono clip" title={v.value}>{v.value}</td><td>{v.description}</td><td>{v.is_encrypted ? 'yes' : 'no'}</td>
                <td className="nowrap right"><button type="button" className="btn icon" aria-label={`Edit ${v.key}`} onClick={() => setEdit({ v, fresh: false })}><Icon name="edit" /></button><button type="button" className="btn icon danger" aria-label={`Delete ${v.key}`} onClick={() => setGone([v.key])}><Icon name="trash" /></button></td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {list.data && <Pager offset={offset} limit={pageSize} total={list.data.total_entries} onGo={(o) => set({ offset: o ? String(o) : null })} />}
      {chosen.size > 0 && <div className="bulk" role="toolbar" aria-label="With the chosen"><b>{chosen.size} chosen</b><button type="button" className="btn danger" onClick={() => setGone([...chosen])}><Icon name="trash" />Delete…</button></div>}
      {edit && <Edit v={edit.v} fresh={edit.fresh} onClose={() => setEdit(null)} />}
      {gone && <Confirm title={gone.length === 1 ? `Delete variable ${gone[0]}` : `Delete ${gone.length} variables`} action="Delete" danger onClose={() => setGone(null)} onConfirm={async () => { for (const k of gone) await del(path(k)); setChosen(new Set()); toast('Deleted.'); await refresh(); }}><p>{gone.join(', ')}</p></Confirm>}
      {importing && <Import values={importing} onClose={() => setImporting(null)} />}
    </div>
  );
}

function Edit({ v, fresh, onClose }: { v: Variable; fresh: boolean; onClose: () => void }) {
  const refresh = useRefresh();
  const [key, setKey] = useState(v.key);
  const [value, setValue] = useState(v.value);
  const [description, setDescription] = useState(v.description ?? '');
  const [error, setError] = useState<unknown>(null);
  const submit = () => {
    const body = { key, value, description };
    (fresh ? post('api/v2/variables', body) : patch(path(v.key), body)).then(async () => { toast('Variable saved.'); onClose(); await refresh(); }, setError);
  };
  return (
    <Dialog title={fresh ? 'Add variable' : `Variable ${v.key}`} onClose={onClose} onSubmit={submit} footer={<><button type="button" className="btn" onClick={onClose}>Cancel</button><button className="btn primary">Save</button></>}>
      {error !== null && <Failed error={error} />}
      <label className="field"><span>Key</span><input required maxLength={250} disabled={!fresh} value={key} onChange={(e) => setKey(e.target.value)} /></label>
      <label className="field"><span>Value</span><textarea className="mono" rows={6} value={value} onChange={(e) => setValue(e.target.value)} spellCheck={false} />{v.value === '***' && <span className="small muted">*** keeps the stored secret.</span>}</label>
      <label className="field"><span>Description</span><textarea rows={2} value={description} onChange={(e) => setDescription(e.target.value)} /></label>
    </Dialog>
  );
}

function Import({ values, onClose }: { values: Record<string, unknown>; onClose: () => void }) {
  const refresh = useRefresh();
  const [conflict, setConflict] = useState('fail');
  const [error, setError] = useState<unknown>(null);
  const keys = Object.keys(values);
  const submit = () => {
    const entities = keys.map((key) => {
      const v = values[key];
      const wrapped = typeof v === 'object' && v !== null && 'value' in v ? (v as { value: unknown; description?: string }) : null;
      return wrapped ? { key, value: wrapped.value, description: wrapped.description ?? null } : { key, value: v };
    });
    call<{ create: { success: string[]; errors: { error: string }[] } }>('api/v2/variables', { method: 'PATCH', body: { actions: [{ action: 'create', action_on_existence: conflict, entities }] } }).then(async (r) => {
      if (r.create.errors.length) setError(new Error(r.create.errors.map((e) => e.error).join('; ')));
      else {
        toast(`${r.create.success.length} of ${keys.length} variables imported.`);
        onClose();
      }
      await refresh();
    }, setError);
  };
  return (
    <Dialog title={`Import ${keys.length} variables`} onClose={onClose} onSubmit={submit} footer={<><button type="button" className="btn" onClick={onClose}>Cancel</button><button className="btn primary">Import</button></>}>
      {error !== null && <Failed error={error} />}
      <p className="mono clip">{keys.slice(0, 20).join(', ')}{keys.length > 20 && ' …'}</p>
      <fieldset className="checks" style={{ border: 0, padding: 0, margin: 0 }}><legend>If a key exists</legend>{[['fail', 'refuse'], ['skip', 'keep the stored value'], ['overwrite', 'overwrite it']].map(([v, l]) => <label key={v}><input type="radio" name="conflict" checked={conflict === v} onChange={() => setConflict(v ?? 'fail')} />{l}</label>)}</fieldset>
    </Dialog>
  );
}
