import { useMemo, useState } from 'react';
import { query } from '../lib/api';
import { diffLines, tokens } from '../lib/code';
import { useShortcuts } from '../lib/keys';
import { usePref } from '../lib/prefs';
import { useGet } from '../lib/query';
import { CopyButton, Failed, Loading, Time } from './base';
import { Icon } from './icons';

interface Source {
  content: string | null;
  version_number: number | null;
}

interface Versions {
  dag_versions: { version_number: number; created_at: string }[];
}

/** The source of a DAG version, and what changed since another. */
export default function Code({ dag, version }: { dag: string; version?: number | undefined }) {
  const versions = useGet<Versions>(`api/v2/dags/${encodeURIComponent(dag)}/dagVersions?order_by=-version_number&limit=100`);
  const [chosen, setChosen] = useState<number | undefined>(version);
  const [against, setAgainst] = useState<number | undefined>(undefined);
  const [wrap, setWrap] = usePref('codewrap', 'no');
  const at = chosen ?? versions.data?.dag_versions[0]?.version_number;
  const path = (v: number | undefined) => `api/v2/dagSources/${encodeURIComponent(dag)}` + query({ version_number: v });
  const source = useGet<Source>(path(at), { stale: 60_000, enabled: versions.isSuccess || versions.isError, keep: true });
  const other = useGet<Source>(path(against), { stale: 60_000, enabled: against !== undefined });
  useShortcuts([{ keys: 'w', does: 'Wrap lines', run: () => setWrap(wrap === 'yes' ? 'no' : 'yes') }]);
  const text = source.data?.content ?? '';
  const before = against === undefined ? undefined : (other.data?.content ?? undefined);
  const lines = useMemo(() => (before === undefined ? null : diffLines(before, text)), [before, text]);
  const language = /^\s*(import|from|def|class|@|""")/m.test(text) && !/^[\w-]+:\s*$/m.test(text) ? 'python' : 'yaml';
  if (source.isError) return <Failed error={source.error} />;
  if (!source.data) return <Loading />;
  const list = versions.data?.dag_versions ?? [];
  return (
    <div className="stack">
      <div className="row wrap">
        {list.length > 0 && (
          <>
            <label className="row">Version <select value={at} onChange={(e) => setChosen(Number(e.target.value))}>{list.map((v) => <option key={v.version_number} value={v.version_number}>v{v.version_number}</option>)}</select></label>
            <span className="muted small"><Time t={list.find((v) => v.version_number === at)?.created_at} /></span>
            {list.length > 1 && <label className="row">Compare with <select value={against ?? ''} onChange={(e) => setAgainst(e.target.value ? Number(e.target.value) : undefined)}><option value="">nothing</option>{list.filter((v) => v.version_number !== at).map((v) => <option key={v.version_number} value={v.version_number}>v{v.version_number}</option>)}</select></label>}
          </>
        )}
        <span className="grow" />
        <button type="button" className="btn icon" aria-pressed={wrap === 'yes'} aria-label="Wrap lines" title="Wrap lines (w)" onClick={() => setWrap(wrap === 'yes' ? 'no' : 'yes')}><Icon name="wrap" /></button>
        <CopyButton text={() => text} label="Copy the code" />
      </div>
      <div className={wrap === 'yes' ? 'code wrapped' : 'code'} tabIndex={0} role="region" aria-label={lines ? 'Changes' : 'Code'}>
        {lines
          ? lines.map((l, i) => <div key={i} className={l.kind === '+' ? 'cl add' : l.kind === '-' ? 'cl rem' : 'cl'}><span className="cn">{l.kind}</span><span>{l.text}</span></div>)
          : text.split('\n').map((l, i) => <div key={i} className="cl"><span className="cn">{i + 1}</span><span>{tokens(l, language).map((t, j) => (t.kind ? <span key={j} className={'k-' + t.kind}>{t.text}</span> : t.text))}</span></div>)}
      </div>
    </div>
  );
}
