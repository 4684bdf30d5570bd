import { useState } from 'react';
import { useGet } from '../lib/query';
import { Empty, Failed, Loading, show, Time } from '../ui/base';

type Kind = 'configs' | 'providers' | 'plugins' | 'jobs';

const kinds: Record<Kind, { title: string; path: string; empty: string }> = {
  configs: { title: 'Config', path: 'api/v2/config', empty: 'No options.' },
  providers: { title: 'Providers', path: 'api/v2/providers?limit=100', empty: 'No providers: operators are built in.' },
  plugins: { title: 'Plugins', path: 'api/v2/plugins?limit=100', empty: 'No plugins: Gust has none.' },
  jobs: { title: 'Jobs', path: 'api/v2/jobs?limit=100', empty: 'No jobs.' },
};

interface Config {
  sections: { name: string; options: { key: string; value: unknown }[] }[];
}

/** Plain tables: configuration, providers, plugins, jobs; each with a search. */
export default function Simple({ kind }: { kind: Kind }) {
  const k = kinds[kind];
  const list = useGet<Record<string, unknown>>(k.path, { stale: 30_000 });
  const [find, setFind] = useState('');
  let rows: Record<string, unknown>[] = [];
  if (list.data) {
    if (kind === 'configs') rows = ((list.data as unknown as Config).sections ?? []).flatMap((s) => s.options.map((o) => ({ section: s.name, key: o.key, value: Array.isArray(o.value) ? o.value.join(' ') : o.value })));
    else rows = (list.data[kind] as Record<string, unknown>[] | undefined) ?? [];
  }
  const wanted = find.toLowerCase();
  const shown = wanted ? rows.filter((r) => Object.values(r).some((v) => show(v).toLowerCase().includes(wanted))) : rows;
  const columns = [...new Set(rows.flatMap((r) => Object.keys(r)))].filter((c) => rows.some((r) => r[c] !== null && show(r[c]) !== '' && show(r[c]) !== '[]'));
  return (
    <div className="page">
      <h1>{k.title}</h1>
      <div className="filters"><input type="search" aria-label={`Search ${k.title}`} placeholder="Search" value={find} onChange={(e) => setFind(e.target.value)} /><span>{shown.length}</span></div>
      {list.isError && ((list.error as { status?: number }).status === 403 && kind === 'configs' ? <Empty>The configuration is not shown here: [api] expose_config is off.</Empty> : <Failed error={list.error} />)}
      {list.isPending && <Loading />}
      {list.data && shown.length === 0 && <Empty>{find ? 'Nothing found.' : k.empty}</Empty>}
      {shown.length > 0 && (
        <div className="scroll" tabIndex={0} role="region" aria-label={k.title}>
          <table className="t"><thead><tr>{columns.map((c) => <th key={c} scope="col">{c.replaceAll('_', ' ')}</th>)}</tr></thead><tbody>{shown.map((r, i) => <tr key={i}>{columns.map((c) => <td key={c} style={{ overflowWrap: 'anywhere' }}>{/(_date|heartbeat)$/.test(c) && typeof r[c] === 'string' ? <Time t={r[c] as string} /> : show(r[c])}</td>)}</tr>)}</tbody></table>
        </div>
      )}
    </div>
  );
}
