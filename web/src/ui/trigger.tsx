import { useMemo, useState } from 'react';
import { useLocation } from 'wouter';
import { api, ApiError, get, patch, post, query, to } from '../lib/api';
import { confOf, fieldsOf, type Field } from '../lib/params';
import { useGet, useRefresh } from '../lib/query';
import type { DagDetails, DagRun } from '../lib/types';
import { Dialog, Failed, Loading, Time, toast } from './base';
import { FieldInput } from './fields';

/** Starts a run: a form made of the DAG's params, recent configurations, what else Airflow asks for. */
export default function TriggerDialog({ dag, onClose, conf }: { dag: string; onClose: () => void; conf?: Record<string, unknown> }) {
  const details = useGet<DagDetails>(api.dag(dag) + '/details', { stale: 0 });
  return (
    <>
      {details.data ? <Form key={dag} dag={details.data} onClose={onClose} conf={conf ?? {}} /> : (
        <Dialog title={`Trigger ${dag}`} onClose={onClose}>{details.isError ? <Failed error={details.error} /> : <Loading />}</Dialog>
      )}
    </>
  );
}

function Form({ dag, onClose, conf }: { dag: DagDetails; onClose: () => void; conf: Record<string, unknown> }) {
  const [, go] = useLocation();
  const refresh = useRefresh();
  const [from, setFrom] = useState(conf);
  const params = useMemo(() => dag.params ?? {}, [dag.params]);
  const fields = useMemo(() => fieldsOf(params, from), [params, from]);
  const [texts, setTexts] = useState<Record<string, string>>({});
  const [asJson, setAsJson] = useState<string | null>(null);
  const [runId, setRunId] = useState('');
  const [logical, setLogical] = useState('');
  const [note, setNote] = useState('');
  const [unpause, setUnpause] = useState(true);
  const [tried, setTried] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const recent = useGet<{ dag_runs: DagRun[] }>(api.dag(dag.dag_id) + '/dagRuns' + query({ limit: 10, order_by: '-run_after', run_type: 'manual' }));
  const confs = useMemo(() => {
    const seen = new Set<string>();
    return (recent.data?.dag_runs ?? []).filter((r) => {
      const s = JSON.stringify(r.conf ?? {});
      return s !== '{}' && !seen.has(s) && !!seen.add(s);
    }).slice(0, 5);
  }, [recent.data]);
  const extra = Object.fromEntries(Object.entries(from).filter(([k]) => !(k in params)));
  const made = confOf(fields, texts, extra);
  const sections = [...new Set(fields.map((f) => f.section))];
  const set = (f: Field) => (v: string) => setTexts({ ...texts, [f.name]: v });

  const submit = async () => {
    setTried(true);
    setError(null);
    let body: Record<string, unknown> = made.conf;
    if (asJson !== null) {
      try {
        const v = JSON.parse(asJson || '{}') as unknown;
        if (typeof v !== 'object' || v === null || Array.isArray(v)) throw new Error('expected an object such as {"key": "value"}');
        body = v as Record<string, unknown>;
      } catch (e) {
        setError(new Error('Configuration: ' + (e instanceof Error ? e.message : String(e))));
        return;
      }
    } else if (Object.keys(made.errors).length > 0) return;
    setBusy(true);
    try {
      if (dag.is_paused && unpause) await patch(api.dag(dag.dag_id) + '?update_mask=is_paused', { is_paused: false });
      const run = await post<DagRun>(api.dag(dag.dag_id) + '/dagRuns', {
        logical_date: logical ? new Date(logical + (logical.length === 16 ? ':00Z' : 'Z')).toISOString() : null,
        conf: body, ...(runId ? { dag_run_id: runId } : {}), ...(note ? { note } : {}),
      });
      toast(`Triggered ${dag.dag_id}.`);
      await refresh();
      onClose();
      go(to.run(dag.dag_id, run.dag_run_id));
    } catch (e) {
      setBusy(false);
      setError(e instanceof ApiError && e.status === 409 ? new Error('There is a run with that id or logical date already.') : e);
    }
  };

  const pick = async (id: string) => {
    const r = confs.find((x) => x.dag_run_id === id) ?? (await get<DagRun>(api.run(dag.dag_id, id)));
    setFrom(r.conf ?? {});
    setTexts({});
    setAsJson(null);
  };

  return (
    <Dialog
      title={`Trigger ${dag.dag_display_name}`} onClose={onClose} onSubmit={() => void submit()}
      footer={
        <>
          {dag.is_paused && <label className="check"><input type="checkbox" checked={unpause} onChange={(e) => setUnpause(e.target.checked)} />Unpause {dag.dag_display_name}</label>}
          <span className="grow" />
          <button type="button" className="btn" onClick={onClose}>Cancel</button>
          <button className="btn primary" disabled={busy}>Trigger</button>
        </>
      }
    >
      {error !== null && <Failed error={error} />}
      {confs.length > 0 && (
        <label className="field">
          <span>Configuration of an earlier run</span>
          <select value="" onChange={(e) => { if (e.target.value) void pick(e.target.value); }}>
            <option value="">choose…</option>
            {confs.map((r) => <option key={r.dag_run_id} value={r.dag_run_id}>{r.run_after.slice(0, 16).replace('T', ' ')} · {JSON.stringify(r.conf).slice(0, 80)}</option>)}
          </select>
        </label>
      )}
      {asJson === null && sections.map((s) => (
        <fieldset key={s} style={{ border: 0, padding: 0, margin: 0 }} className="stack">
          {s && <legend><h3>{s}</h3></legend>}
          {fields.filter((f) => f.section === s).map((f) => (
            <FieldInput key={f.name + f.initial} field={f} text={texts[f.name] ?? f.initial} onChange={set(f)} error={tried ? made.errors[f.name] : undefined} />
          ))}
        </fieldset>
      ))}
      {asJson === null && fields.length === 0 && Object.keys(extra).length === 0 && <p className="muted">This DAG has no params.</p>}
      <details>
        <summary>Advanced: run id, logical date, note, configuration as JSON</summary>
        <div className="stack" style={{ marginTop: 8 }}>
          <label className="field"><span>Run id</span><input value={runId} onChange={(e) => setRunId(e.target.value)} placeholder="made by the server" pattern="[A-Za-z0-9_.~:+\-]+" /></label>
          <label className="field"><span>Logical date (UTC)</span><input type="datetime-local" step="1" value={logical} onChange={(e) => setLogical(e.target.value)} /><span className="small muted">Leave it empty unless the DAG computes with it.</span></label>
          <label className="field"><span>Note</span><textarea rows={2} maxLength={1000} value={note} onChange={(e) => setNote(e.target.value)} /></label>
          <label className="check"><input type="checkbox" checked={asJson !== null} onChange={(e) => setAsJson(e.target.checked ? JSON.stringify(made.conf, null, 2) : null)} />Write the configuration as JSON</label>
          {asJson !== null && <label className="field"><span>Configuration</span><textarea className="mono" rows={8} value={asJson} onChange={(e) => setAsJson(e.target.value)} spellCheck={false} /></label>}
        </div>
      </details>
      {dag.next_dagrun_run_after && <p className="muted small">The next scheduled run starts at <Time t={dag.next_dagrun_run_after} />.</p>}
    </Dialog>
  );
}
