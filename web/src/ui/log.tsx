import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'react';
import { api, raw } from '../lib/api';
import { spans } from '../lib/ansi';
import { useShortcuts } from '../lib/keys';
import { entriesOf, levels, plain, visible, type Entry } from '../lib/log';
import { usePref } from '../lib/prefs';
import { partsOf } from '../lib/time';
import type { LogLine } from '../lib/types';
import { CopyButton, Empty, Failed, Loading, save, useZone } from './base';
import { Icon } from './icons';

interface Props {
  dag: string;
  run: string;
  task: string;
  map: number;
  attempt: number;
  moving: boolean; // the try may still write
}

const pollEvery = 1500;

/** Reads a log as ndjson, page by page, and goes on while the task runs. */
function useLog({ dag, run, task, map, attempt, moving }: Props) {
  const [lines, setLines] = useState<LogLine[]>([]);
  const [error, setError] = useState<unknown>(null);
  const [loaded, setLoaded] = useState(false);
  const still = useRef(moving);
  useEffect(() => {
    still.current = moving;
  }, [moving]);
  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let token: string | null = null;
    let last = false; // one more look after the end
    const read = async () => {
      if (document.hidden) {
        timer = setTimeout(() => void read(), pollEvery);
        return;
      }
      try {
        const q = new URLSearchParams();
        if (map >= 0) q.set('map_index', String(map));
        if (token) q.set('token', token);
        else q.set('full_content', 'false');
        const r = await raw(`${api.ti(dag, run, task)}/logs/${attempt}?${q.toString()}`, { accept: 'application/x-ndjson', signal: stop.signal });
        const body = await r.text();
        const next = r.headers.get('Airflow-Continuation-Token');
        const got = body.split('\n').filter(Boolean).map((l): LogLine => {
          try {
            const v = JSON.parse(l) as unknown;
            return typeof v === 'object' && v !== null ? (v as LogLine) : { event: String(v) };
          } catch {
            return { event: l };
          }
        });
        if (stop.signal.aborted) return;
        const whole = token === null;
        token = next;
        setError(null);
        setLoaded(true);
        setLines((old) => (whole ? got : got.length ? [...old, ...got] : old));
        if (next && got.length > 0) timer = setTimeout(() => void read(), still.current ? 400 : 0);
        else if (still.current) timer = setTimeout(() => void read(), pollEvery);
        else if (!last) {
          last = true;
          timer = setTimeout(() => void read(), next ? pollEvery : 3 * pollEvery);
        }
      } catch (e) {
        if (stop.signal.aborted) return;
        setLoaded(true);
        setError(e);
        if (still.current) timer = setTimeout(() => void read(), 2 * pollEvery);
      }
    };
    void read();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [dag, run, task, map, attempt, moving]);
  return { lines, error, loaded };
}

function Message({ entry, find, open, onToggle }: { entry: Entry; find: string; open: boolean; onToggle: () => void }) {
  if (entry.opens) return <span className="msg"><button type="button" className="group" aria-expanded={open} onClick={onToggle}>{open ? '▼' : '▶'} {entry.text || 'group'}</button></span>;
  if (!find) {
    return <span className="msg">{spans(String(entry.line.event)).map((s, i) => (s.className ? <span key={i} className={s.className}>{s.text}</span> : s.text))}</span>;
  }
  const out = [];
  const low = entry.text.toLowerCase();
  const want = find.toLowerCase();
  let at = 0;
  for (let hit = low.indexOf(want); hit >= 0; hit = low.indexOf(want, at)) {
    out.push(entry.text.slice(at, hit), <mark key={hit}>{entry.text.slice(hit, hit + want.length)}</mark>);
    at = hit + want.length;
  }
  out.push(entry.text.slice(at));
  return <span className="msg">{out}</span>;
}

export default function LogView(p: Props) {
  const { lines, error, loaded } = useLog(p);
  const zone = useZone();
  const [wrap, setWrap] = usePref('logwrap', 'yes');
  const [stamps, setStamps] = usePref('logtime', 'yes');
  const [sources, setSources] = usePref('logsource', 'no');
  const [level, setLevel] = useState('');
  const [source, setSource] = useState('');
  const [find, setFind] = useState('');
  const [hit, setHit] = useState(0);
  const [follow, setFollow] = useState(true);
  const [full, setFull] = useState(false);
  const [toggled, setToggled] = useState<ReadonlySet<number>>(new Set());
  const [allClosed, setAllClosed] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const search = useRef<HTMLInputElement>(null);

  const entries = useMemo(() => entriesOf(lines), [lines]);
  const closed = useMemo(() => {
    const s = new Set<number>();
    for (const e of entries) if (e.opens && allClosed !== toggled.has(e.no)) s.add(e.no);
    return s;
  }, [entries, toggled, allClosed]);
  const shown = useMemo(() => visible(entries, level, source, closed), [entries, level, source, closed]);
  const loggers = useMemo(() => [...new Set(entries.map((e) => e.line.logger).filter((l): l is string => typeof l === 'string'))].sort(), [entries]);
  const hits = useMemo(() => (find ? shown.flatMap((e, i) => (e.text.toLowerCase().includes(find.toLowerCase()) ? [i] : [])) : []), [shown, find]);
  const target = /^#(\d+)$/.exec(window.location.hash)?.[1];

  // eslint-disable-next-line react-hooks/incompatible-library -- TanStack Virtual; nothing here is memoised by its functions
  const v = useVirtualizer({ count: shown.length, getScrollElement: () => box.current, estimateSize: () => 17, overscan: 20 });
  const size = v.getTotalSize();

  // The tail first, and along with it while it grows, unless the reader has scrolled away.
  useLayoutEffect(() => {
    if (!shown.length) return;
    if (target && !find) {
      const i = shown.findIndex((e) => e.no === Number(target));
      if (i >= 0) {
        v.scrollToIndex(i, { align: 'center' });
        return;
      }
    }
    if (follow && !find && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [shown.length, size, follow, find, target]); // eslint-disable-line react-hooks/exhaustive-deps

  const go = (step: number) => {
    if (!hits.length) return;
    const n = (hit + step + hits.length) % hits.length;
    setHit(n);
    setFollow(false);
    v.scrollToIndex(hits[n] ?? 0, { align: 'center' });
  };
  const download = () => save(`${p.dag}.${p.run}.${p.task}${p.map >= 0 ? '.' + p.map : ''}.${p.attempt}.log`, plain(entries));
  const toEnd = () => { setFollow(true); if (box.current) box.current.scrollTop = box.current.scrollHeight; };
  const toStart = () => { setFollow(false); if (box.current) box.current.scrollTop = 0; };
  useShortcuts([
    { keys: '/', does: 'Search in the log', run: () => search.current?.focus() },
    { keys: 'Ctrl+ArrowUp', does: 'First line', run: toStart },
    { keys: 'Ctrl+ArrowDown', does: 'Last line', run: toEnd },
    { keys: 'w', does: 'Wrap lines', run: () => setWrap(wrap === 'yes' ? 'no' : 'yes') },
    { keys: 't', does: 'Time stamps', run: () => setStamps(stamps === 'yes' ? 'no' : 'yes') },
    { keys: 's', does: 'Sources', run: () => setSources(sources === 'yes' ? 'no' : 'yes') },
    { keys: 'e', does: 'Open or close all groups', run: () => { setAllClosed(!allClosed); setToggled(new Set()); } },
    { keys: 'f', does: 'Full screen', run: () => setFull(!full) },
    { keys: 'd', does: 'Download', run: download },
  ]);
  const time = (e: Entry) => {
    if (!e.line.timestamp) return '';
    const d = new Date(e.line.timestamp);
    if (Number.isNaN(d.getTime())) return '';
    const q = partsOf(d, zone);
    return `${q.year}-${q.month}-${q.day} ${q.hour}:${q.minute}:${q.second}.${String(d.getUTCMilliseconds()).padStart(3, '0')}`;
  };
  const place: React.CSSProperties = full ? { position: 'fixed', inset: 0, zIndex: 40, background: 'var(--bg)', padding: 10 } : { height: '100%', minHeight: 0 };
  return (
    <div className="stack" style={place}>
      <div className="row wrap">
        <input ref={search} type="search" aria-label="Search in the log" placeholder="Search in the log" style={{ flex: '1 1 130px', maxWidth: 300 }} value={find} onChange={(e) => { setFind(e.target.value); setHit(0); }} onKeyDown={(e) => { if (e.key === 'Enter') { e.preventDefault(); go(e.shiftKey ? -1 : 1); } }} />
        {find && <span className="small muted" role="status">{hits.length ? `${Math.min(hit + 1, hits.length)} of ${hits.length}` : 'nothing found'}</span>}
        <select aria-label="Level" value={level} onChange={(e) => setLevel(e.target.value)}><option value="">All levels</option>{levels.slice(1).map((l) => <option key={l} value={l}>{l} and above</option>)}</select>
        {loggers.length > 1 && <select aria-label="Source" value={source} onChange={(e) => setSource(e.target.value)} style={{ maxWidth: 160 }}><option value="">All sources</option>{loggers.map((l) => <option key={l}>{l}</option>)}</select>}
        <span className="grow" />
        {p.moving && <button type="button" className="btn" aria-pressed={follow} onClick={() => (follow ? setFollow(false) : toEnd())}>Follow</button>}
        <button type="button" className="btn icon" aria-pressed={wrap === 'yes'} aria-label="Wrap lines" title="Wrap lines (w)" onClick={() => setWrap(wrap === 'yes' ? 'no' : 'yes')}><Icon name="wrap" /></button>
        <button type="button" className="btn icon" aria-pressed={stamps === 'yes'} aria-label="Time stamps" title="Time stamps (t)" onClick={() => setStamps(stamps === 'yes' ? 'no' : 'yes')}><Icon name="clock" /></button>
        <button type="button" className="btn icon" aria-label="Full screen" title="Full screen (f)" onClick={() => setFull(!full)}><Icon name="full" /></button>
        <CopyButton label="Copy the log" text={() => plain(entries)} />
        <button type="button" className="btn icon" aria-label="Download the log" title="Download (d)" onClick={download}><Icon name="download" /></button>
      </div>
      {error !== null && lines.length === 0 && <Failed error={error} />}
      {!loaded && <Loading />}
      {loaded && error === null && lines.length === 0 && <Empty>{p.moving ? 'No line yet.' : 'This try wrote no log.'}</Empty>}
      {lines.length > 0 && (
        <div
          ref={box} className={wrap === 'yes' ? 'log wrapped' : 'log'} tabIndex={0} role="log" aria-label={`Log of ${p.task}, try ${p.attempt}`} aria-live="off"
          onScroll={(e) => { const b = e.currentTarget; const end = b.scrollHeight - b.scrollTop - b.clientHeight < 30; if (end !== follow && !find) setFollow(end); }}
        >
          <div style={{ height: size, position: 'relative' }}>
            {v.getVirtualItems().map((it) => {
              const e = shown[it.index];
              if (!e) return null;
              const found = find !== '' && hits[hit] === it.index;
              return (
                <div key={e.no} ref={v.measureElement} data-index={it.index} className={`line ${e.level}${found ? ' cur' : ''}${find && e.text.toLowerCase().includes(find.toLowerCase()) ? ' hit' : ''}${String(e.no) === target ? ' cur' : ''}`} style={{ transform: `translateY(${it.start}px)`, paddingLeft: 0 }}>
                  <a className="no" href={`#${e.no}`} aria-label={`Line ${e.no}`} onClick={(ev) => { ev.preventDefault(); history.replaceState(null, '', `${location.pathname}${location.search}#${e.no}`); setFollow(false); }}>{e.no}</a>
                  {stamps === 'yes' && e.line.timestamp && <span className="ts">{time(e)}</span>}
                  {e.level && !e.opens && <span className="lv">{e.level.toUpperCase()}</span>}
                  <Message entry={e} find={find} open={!closed.has(e.no)} onToggle={() => { const n = new Set(toggled); if (!n.delete(e.no)) n.add(e.no); setToggled(n); }} />
                  {sources === 'yes' && e.line.logger && <span className="src">{e.line.logger}</span>}
                </div>
              );
            })}
          </div>
        </div>
      )}
    </div>
  );
}
