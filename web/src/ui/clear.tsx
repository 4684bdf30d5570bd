import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { api, patch, post } from '../lib/api';
import { useRefresh } from '../lib/query';
import type { TaskInstance } from '../lib/types';
import { Affected, instanceKey } from './affected';
import { Dialog, Empty, Failed, Loading, toast } from './base';

type TaskRef = string | [string, number];

interface Props {
  dag: string;
  run: string;
  task?: string | undefined;
  map?: number;
  tasks?: TaskRef[];
  onClose: () => void;
}

/** Clears a run, a task instance or several, after showing what will run again. */
export default function ClearDialog({ dag, run, task, map = -1, tasks, onClose }: Props) {
  const refresh = useRefresh();
  const ids: TaskRef[] | undefined = tasks ?? (task === undefined ? undefined : [map >= 0 ? [task, map] : task]);
  const [o, setO] = useState({ include_past: false, include_future: false, include_upstream: false, include_downstream: ids !== undefined, only_failed: false });
  const [prevent, setPrevent] = useState(true);
  const [latest, setLatest] = useState(false);
  const [note, setNote] = useState('');
  const [left, setLeft] = useState<ReadonlySet<string>>(new Set());
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const body = { dag_run_id: run, ...o, ...(ids ? { task_ids: ids } : {}), reset_dag_runs: true };
  const path = api.dag(dag) + '/clearTaskInstances';
  const preview = useQuery<{ task_instances: TaskInstance[] }>({ queryKey: ['clear', dag, body], queryFn: () => post(path, { ...body, dry_run: true }), staleTime: 0, placeholderData: (p) => p });
  const list = preview.data?.task_instances ?? [];
  const oneRun = new Set(list.map((t) => t.dag_run_id)).size <= 1;
  const chosen = list.filter((t) => !left.has(instanceKey(t)));
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      const more = { dry_run: false, prevent_running_task: prevent, run_on_latest_version: latest };
      if (oneRun && chosen.length < list.length) {
        await post(path, { dag_run_id: run, task_ids: chosen.map((t) => (t.map_index >= 0 ? [t.task_id, t.map_index] : t.task_id)), only_failed: false, reset_dag_runs: true, ...more });
      } else await post(path, { ...body, ...more });
      if (note) await patch((task !== undefined ? api.ti(dag, run, task, map) : api.run(dag, run)) + '?update_mask=note', { note });
      toast(`Cleared ${chosen.length} task ${chosen.length === 1 ? 'instance' : 'instances'}.`);
      await refresh();
      onClose();
    } catch (e) {
      setBusy(false);
      setError(e);
    }
  };
  const box = (k: keyof typeof o, label: string) => <label><input type="checkbox" checked={o[k]} onChange={(e) => { setO({ ...o, [k]: e.target.checked }); setLeft(new Set()); }} />{label}</label>;
  return (
    <Dialog
      title={`Clear ${tasks ? `${tasks.length} task instances` : task ? `task ${task}${map >= 0 ? ` [${map}]` : ''}` : `run ${run}`}`} onClose={onClose} onSubmit={() => void submit()}
      footer={<><button type="button" className="btn" onClick={onClose}>Cancel</button><button className="btn primary" disabled={busy || preview.isFetching || chosen.length === 0} autoFocus>Clear {preview.isSuccess ? chosen.length : ''}</button></>}
    >
      <div className="checks" role="group" aria-label="Which">
        {ids && <>{box('include_past', 'Past')}{box('include_future', 'Future')}{box('include_upstream', 'Upstream')}{box('include_downstream', 'Downstream')}</>}
        {box('only_failed', 'Only failed')}
      </div>
      {error !== null && <Failed error={error} />}
      {preview.isError ? <Failed error={preview.error} /> : preview.isPending ? <Loading /> : list.length === 0 ? <Empty>Nothing to clear with these options.</Empty> : (
        <>
          <b role="status">Affected: {chosen.length} task {chosen.length === 1 ? 'instance' : 'instances'}</b>
          <Affected list={list} left={left} onToggle={oneRun ? (k) => { const n = new Set(left); if (!n.delete(k)) n.add(k); setLeft(n); } : undefined} />
        </>
      )}
      <div className="checks">
        <label><input type="checkbox" checked={prevent} onChange={(e) => setPrevent(e.target.checked)} />Refuse if one is running</label>
        <label><input type="checkbox" checked={latest} onChange={(e) => setLatest(e.target.checked)} />Run on the latest version</label>
      </div>
      <label className="field"><span>Note</span><textarea rows={2} maxLength={1000} value={note} onChange={(e) => setNote(e.target.value)} /></label>
    </Dialog>
  );
}
