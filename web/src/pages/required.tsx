import { useState } from 'react';
import { Link } from 'wouter';
import { api, patch, query, to } from '../lib/api';
import { fieldsOf, valueOf } from '../lib/params';
import { useGet, useRefresh } from '../lib/query';
import type { Param, TaskInstance } from '../lib/types';
import { Dialog, Empty, Failed, Loading, Time, toast } from '../ui/base';
import { FieldInput } from '../ui/fields';

interface Detail {
  task_instance: TaskInstance;
  subject: string;
  body: string | null;
  options: string[];
  defaults: string[] | null;
  multiple: boolean;
  params: Record<string, Param | unknown>;
  created_at: string;
  response_received: boolean;
  chosen_options: string[] | null;
  responded_at: string | null;
  responded_by_user: { name: string } | null;
}

/** Questions of tasks to people (human in the loop), open ones first. */
export default function Required() {
  const [done, setDone] = useState(false);
  const [open, setOpen] = useState<Detail | null>(null);
  const list = useGet<{ hitl_details: Detail[] }>('api/v2/dags/~/dagRuns/~/hitlDetails' + query({ response_received: done, order_by: '-created_at', limit: 100 }), { pending: () => !done });
  return (
    <div className="page">
      <div className="row"><h1 className="grow">Required actions</h1><span className="seg" role="group" aria-label="Which"><button type="button" className="btn" aria-pressed={!done} onClick={() => setDone(false)}>Open</button><button type="button" className="btn" aria-pressed={done} onClick={() => setDone(true)}>Answered</button></span></div>
      {list.isError && <Failed error={list.error} />}
      {list.isPending && <Loading />}
      {list.data && list.data.hitl_details.length === 0 && <Empty>{done ? 'Nothing was answered yet.' : 'No task waits for an answer.'}</Empty>}
      {list.data && list.data.hitl_details.length > 0 && (
        <table className="t">
          <thead><tr><th scope="col">Subject</th><th scope="col">Task</th><th scope="col">Asked</th><th scope="col">{done ? 'Answer' : ''}</th></tr></thead>
          <tbody>{list.data.hitl_details.map((h) => <tr key={`${h.task_instance.dag_id}/${h.task_instance.dag_run_id}/${h.task_instance.task_id}/${h.task_instance.map_index}`}><td>{h.subject}</td><td><Link href={to.ti(h.task_instance.dag_id, h.task_instance.dag_run_id, h.task_instance.task_id, h.task_instance.map_index)}>{h.task_instance.dag_id}, {h.task_instance.task_id}</Link></td><td><Time t={h.created_at} /></td><td>{done ? `${(h.chosen_options ?? []).join(', ')} by ${h.responded_by_user?.name ?? '?'}` : <button type="button" className="btn" onClick={() => setOpen(h)}>Answer</button>}</td></tr>)}</tbody>
        </table>
      )}
      {open && <Answer h={open} onClose={() => setOpen(null)} />}
    </div>
  );
}

function Answer({ h, onClose }: { h: Detail; onClose: () => void }) {
  const refresh = useRefresh();
  const [chosen, setChosen] = useState<string[]>(h.defaults ?? []);
  const [texts, setTexts] = useState<Record<string, string>>({});
  const [error, setError] = useState<unknown>(null);
  const params = Object.fromEntries(Object.entries(h.params ?? {}).map(([k, v]): [string, Param] => [k, v !== null && typeof v === 'object' && 'value' in v ? (v as Param) : { value: v, schema: {}, description: null }]));
  const fields = fieldsOf(params);
  const send = (options: string[]) => {
    const input: Record<string, unknown> = {};
    for (const f of fields) {
      const { value, error: bad } = valueOf(f, texts[f.name] ?? f.initial);
      if (bad) {
        setError(new Error(`${f.label}: ${bad}`));
        return;
      }
      input[f.name] = value;
    }
    const t = h.task_instance;
    patch(api.ti(t.dag_id, t.dag_run_id, t.task_id) + `/${t.map_index}/hitlDetails`, { chosen_options: options, params_input: input }).then(async () => { toast('Answered.'); onClose(); await refresh(); }, setError);
  };
  return (
    <Dialog title={h.subject} onClose={onClose} footer={h.multiple ? <button type="button" className="btn primary" disabled={chosen.length === 0} onClick={() => send(chosen)}>Answer</button> : <>{h.options.map((o) => <button type="button" key={o} className={h.defaults?.includes(o) ? 'btn primary' : 'btn'} onClick={() => send([o])}>{o}</button>)}</>}>
      {error !== null && <Failed error={error} />}
      {h.body && <p style={{ whiteSpace: 'pre-line' }}>{h.body}</p>}
      {fields.map((f) => <FieldInput key={f.name} field={f} text={texts[f.name] ?? f.initial} onChange={(v) => setTexts({ ...texts, [f.name]: v })} />)}
      {h.multiple && <div className="checks" role="group" aria-label="Options">{h.options.map((o) => <label key={o}><input type="checkbox" checked={chosen.includes(o)} onChange={(e) => setChosen(e.target.checked ? [...chosen, o] : chosen.filter((c) => c !== o))} />{o}</label>)}</div>}
    </Dialog>
  );
}
