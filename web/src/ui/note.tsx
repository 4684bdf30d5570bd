import { useState } from 'react';
import { patch } from '../lib/api';
import { useRefresh } from '../lib/query';
import { Dialog, toast, toastError } from './base';
import { Icon } from './icons';

/** A note beside what it is about, with its editor. */
export function Note({ text, path, what }: { text: string | null | undefined; path: string; what: string }) {
  const [edit, setEdit] = useState<string | null>(null);
  const refresh = useRefresh();
  return (
    <span className="row" style={{ gap: 4 }}>
      <button type="button" className="btn icon" aria-label={text ? `Edit the note of ${what}` : `Add a note to ${what}`} title={text ? 'Edit the note' : 'Add a note'} onClick={() => setEdit(text ?? '')}><Icon name="note" /></button>
      {text && <span style={{ whiteSpace: 'pre-line', overflowWrap: 'anywhere' }}>{text}</span>}
      {edit !== null && (
        <Dialog
          title={`Note on ${what}`} onClose={() => setEdit(null)}
          onSubmit={() => { patch(path + '?update_mask=note', { note: edit }).then(() => { toast('Note saved.'); setEdit(null); return refresh(); }, toastError); }}
          footer={<><button type="button" className="btn" onClick={() => setEdit(null)}>Cancel</button><button className="btn primary">Save</button></>}
        >
          <textarea aria-label="Note" rows={5} maxLength={1000} autoFocus value={edit} onChange={(e) => setEdit(e.target.value)} />
        </Dialog>
      )}
    </span>
  );
}
