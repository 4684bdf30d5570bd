import { useId } from 'react';
import type { Field } from '../lib/params';

/** One input of a form made from JSON Schema. */
export function FieldInput({ field: f, text, onChange, error }: { field: Field; text: string; onChange: (v: string) => void; error?: string | undefined }) {
  const id = useId();
  const common = { id, 'aria-invalid': error ? true : undefined, 'aria-describedby': id + 'd', 'data-param': f.name } as const;
  let input;
  switch (f.kind) {
    case 'boolean':
      input = <span><input type="checkbox" className="switch" role="switch" {...common} checked={text === 'true'} onChange={(e) => onChange(String(e.target.checked))} /></span>;
      break;
    case 'select':
      input = <select {...common} value={text} onChange={(e) => onChange(e.target.value)}>{!f.options.some((o) => o.value === text) && <option value={text}>{text}</option>}{f.options.map((o) => <option key={o.value} value={o.value}>{o.label}</option>)}</select>;
      break;
    case 'multiselect': {
      const chosen = JSON.parse(text || '[]') as unknown[];
      const keys = chosen.map((c) => JSON.stringify(c));
      input = (
        <span className="checks" role="group" aria-labelledby={id + 'l'}>
          {f.options.map((o) => <label key={o.value}><input type="checkbox" checked={keys.includes(o.value)} onChange={(e) => onChange(JSON.stringify(e.target.checked ? [...chosen, JSON.parse(o.value)] : chosen.filter((c) => JSON.stringify(c) !== o.value)))} />{o.label}</label>)}
        </span>
      );
      break;
    }
    case 'integer':
    case 'number':
      input = <input type="number" {...common} step={f.kind === 'integer' ? 1 : 'any'} min={f.schema.minimum} max={f.schema.maximum} value={text} onChange={(e) => onChange(e.target.value)} />;
      break;
    case 'date':
    case 'time':
      input = <input type={f.kind} {...common} step={f.kind === 'time' ? 1 : undefined} value={text} onChange={(e) => onChange(e.target.value)} />;
      break;
    case 'datetime':
      input = <input type="text" {...common} placeholder="2026-01-31T08:00:00+00:00" value={text} onChange={(e) => onChange(e.target.value)} />;
      break;
    case 'lines':
    case 'multiline':
    case 'json':
      input = <textarea {...common} className={f.kind === 'json' ? 'mono' : undefined} rows={Math.min(12, Math.max(3, text.split('\n').length))} spellCheck={false} value={text} onChange={(e) => onChange(e.target.value)} />;
      break;
    default:
      input = (
        <>
          <input type="text" {...common} list={f.schema.examples ? id + 'x' : undefined} value={text} onChange={(e) => onChange(e.target.value)} />
          {f.schema.examples && <datalist id={id + 'x'}>{f.schema.examples.map((x) => <option key={String(x)} value={String(x)} />)}</datalist>}
        </>
      );
  }
  return (
    <div className="field">
      <label id={id + 'l'} htmlFor={id}>{f.label}{f.required && <span className="star" aria-hidden="true"> *</span>}{f.label !== f.name && <span className="small muted"> {f.name}</span>}</label>
      {input}
      <span id={id + 'd'}>
        {f.description && <span className="small muted" style={{ whiteSpace: 'pre-line' }}>{f.description}</span>}
        {f.kind === 'lines' && <span className="small muted"> One value a line.</span>}
        {error && <span className="err" role="alert"> {error}</span>}
      </span>
    </div>
  );
}
