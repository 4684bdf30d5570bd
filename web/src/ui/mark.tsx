import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { api, get, patch } from '../lib/api';
import { useRefresh } from '../lib/query';
import { unfinished } from '../lib/states';
import type { Instances, TaskInstance } from '../lib/types';
import { Affected } from './affected';
import { Dialog, Empty, Failed, Loading, toast } from './base';
import { StateBadge } from './state';

interface Props {
  dag: string;
  run: string;
  task?: string | undefined;
  map?: number;
  state: 'success' | 'failed' | 'skipped';
  onClose: () => void;
}

/** Marks a run or a task instance, after showing what that touches. */
export default function MarkDialog({ dag, run, task, map = -1, state, onClose }: Props) {
  const refresh = useRefresh();
  const [o, setO] = useState({ include_past: false, include_future: false, include_upstream: false, include_downstream: false });
  const [note, setNote] = useState('');
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const preview = useQuery<TaskInstance[]>({
    queryKey: ['mark', dag, run, task, map, state, o],
    queryFn: async () => {
      if (task !== undefined) return (await patch<{ task_instances: TaskInstance[] }>(api.ti(dag, run, task, map) + '/dry_run', { new_state: state, ...o })).task_instances;
      const all = await get<Instances>(`ui/dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(run)}/instances`);
      return all.instances.filter((i) => unfinished(i.state)).map((i) => ({ ...i, dag_run_id: run, rendered_map_index: i.rendered_map_index ?? null }) as unknown as TaskInstance);
    },
    staleTime: 0,
    placeholderData: (p) => p,
  });
  const list = preview.data ?? [];
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      if (task !== undefined) await patch(api.ti(dag, run, task, map), { new_state: state, ...o, ...(note ? { note } : {}) });
      else await patch(api.run(dag, run), { state, ...(note ? { note } : {}) });
      toast(`Marked as ${state}.`);
      await refresh();
      onClose();
    } catch (e) {
      setBusy(false);
      setError(e);
    }
  };
  return (
    <Dialog
      title={<>Mark {task ? `task ${task}${map >= 0 ? ` [${map}]` : ''}` : `run ${run}`} as <StateBadge state={state} /></>} onClose={onClose} onSubmit={() => void submit()}
      footer={<><button type="button" className="btn" onClick={onClose}>Cancel</button><button className="btn primary" disabled={busy || preview.isPending || (task !== undefined && list.length === 0)} autoFocus>Mark {state}</button></>}
    >
      {task !== undefined && (
        <div className="checks" role="group" aria-label="Which">
          {(['past', 'future', 'upstream', 'downstream'] as const).map((k) => <label key={k}><input type="checkbox" checked={o[`include_${k}`]} onChange={(e) => setO({ ...o, [`include_${k}`]: e.target.checked })} />{k}</label>)}
        </div>
      )}
      {error !== null && <Failed error={error} />}
      {preview.isError ? <Failed error={preview.error} /> : preview.isPending ? <Loading /> : (
        <>
          <b role="status">Affected: {list.length} task {list.length === 1 ? 'instance' : 'instances'}{task === undefined && ', and the run'}</b>
          {list.length > 0 ? <Affected list={list} /> : <Empty>{task === undefined ? 'All its tasks have finished: only the run changes.' : 'All of them are in that state already.'}</Empty>}
        </>
      )}
      {task === undefined && <p className="muted small">{state === 'success' ? 'Running tasks become success, tasks that have not started become skipped.' : 'Running tasks become failed, tasks that have not started become skipped.'}</p>}
      <label className="field"><span>Note</span><textarea rows={2} maxLength={1000} value={note} onChange={(e) => setNote(e.target.value)} /></label>
    </Dialog>
  );
}
