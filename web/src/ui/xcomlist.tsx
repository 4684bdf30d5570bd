import { useState } from 'react';
import { api, del, patch, post } from '../lib/api';
import { useGet, useRefresh } from '../lib/query';
import { Confirm, CopyButton, Dialog, Empty, Failed, Loading, show, Time, toast } from './base';
import { Icon } from './icons';

interface Entry {
  key: string;
  timestamp: string;
  map_index: number;
}

function Value({ path, map }: { path: string; map: number }) {
  const v = useGet<{ value: unknown }>(path + (map >= 0 ? `?map_index=${map}` : ''));
  if (v.isError) return <Failed error={v.error} />;
  if (!v.data) return <span className="muted">…</span>;
  return <div className="row" style={{ alignItems: 'flex-start' }}><pre className="grow">{show(v.data.value) || 'null'}</pre><CopyButton text={() => show(v.data.value)} label="Copy the value" /></div>;
}

/** XComs of a task instance with their values; add, edit, delete. */
export default function Xcoms({ dag, run, task, map }: { dag: string; run: string; task: string; map: number }) {
  const path = api.ti(dag, run, task) + '/xcomEntries';
  const list = useGet<{ xcom_entries: Entry[] }>(path + `?map_index=${map}&limit=100`);
  const [edit, setEdit] = useState<{ key: string; value: string; fresh: boolean } | null>(null);
  const [gone, setGone] = useState<string | null>(null);
  const [error, setError] = useState<unknown>(null);
  const refresh = useRefresh();
  const one = (k: string) => `${path}/${encodeURIComponent(k)}`;
  const submit = async () => {
    if (!edit) return;
    try {
      let value: unknown;
      try {
        value = JSON.parse(edit.value);
      } catch {
        throw new Error('The value is not JSON. Texts stand in quotes: "text".');
      }
      if (edit.fresh) await post(path, { key: edit.key, value, map_index: map });
      else await patch(one(edit.key), { value, map_index: map });
      toast('XCom saved.');
      setEdit(null);
      await refresh();
    } catch (e) {
      setError(e);
    }
  };
  if (list.isError) return <Failed error={list.error} />;
  if (!list.data) return <Loading />;
  return (
    <div className="stack">
      <div><button type="button" className="btn" onClick={() => { setError(null); setEdit({ key: '', value: '', fresh: true }); }}><Icon name="plus" />Add</button></div>
      {list.data.xcom_entries.length === 0 && <Empty>This task instance pushed no XCom.</Empty>}
      {list.data.xcom_entries.map((x) => (
        <section key={x.key} className="card" aria-label={x.key}>
          <div className="row">
            <h3 className="grow">{x.key}</h3><span className="muted small"><Time t={x.timestamp} /></span>
            <button type="button" className="btn icon" aria-label={`Edit ${x.key}`} onClick={() => { setError(null); setEdit({ key: x.key, value: '', fresh: false }); }}><Icon name="edit" /></button>
            <button type="button" className="btn icon danger" aria-label={`Delete ${x.key}`} onClick={() => setGone(x.key)}><Icon name="trash" /></button>
          </div>
          <Value path={one(x.key)} map={map} />
        </section>
      ))}
      {edit && (
        <Dialog title={edit.fresh ? 'Add an XCom' : `XCom ${edit.key}`} onClose={() => setEdit(null)} onSubmit={() => void submit()} footer={<><button type="button" className="btn" onClick={() => setEdit(null)}>Cancel</button><button className="btn primary">Save</button></>}>
          {error !== null && <Failed error={error} />}
          {edit.fresh && <label className="field"><span>Key</span><input required value={edit.key} onChange={(e) => setEdit({ ...edit, key: e.target.value })} /></label>}
          <label className="field"><span>{edit.fresh ? 'Value' : 'New value'} (JSON)</span><textarea className="mono" rows={6} required value={edit.value} onChange={(e) => setEdit({ ...edit, value: e.target.value })} /></label>
        </Dialog>
      )}
      {gone !== null && <Confirm title={`Delete XCom ${gone}`} action="Delete" danger onClose={() => setGone(null)} onConfirm={() => del(one(gone) + (map >= 0 ? `?map_index=${map}` : '')).then(refresh)}><p>Tasks that still read it will not find it.</p></Confirm>}
    </div>
  );
}
