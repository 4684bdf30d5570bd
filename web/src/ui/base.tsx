import { useEffect, useId, useRef, useState, useSyncExternalStore, type ReactNode } from 'react';
import { Link } from 'wouter';
import { ago, formatTime, zoneName } from '../lib/time';
import { usePref } from '../lib/prefs';
import { Icon } from './icons';

export function useZone(): string {
  const [choice] = usePref('timezone', 'UTC');
  return zoneName(choice);
}

/** A time in the chosen zone; the tooltip has it in UTC and how long ago it was. */
export function Time({ t, relative }: { t: string | null | undefined; relative?: boolean }) {
  const zone = useZone();
  if (!t) return null;
  return (
    <time dateTime={t} title={`${formatTime(t, 'UTC')} UTC, ${ago(t)}`} className="nowrap">
      {relative ? ago(t) : formatTime(t, zone)}
    </time>
  );
}

/** A menu below its button. Children are buttons and links; choosing one closes it. */
export function Menu({ label, button, className, children, align = 'left', up }: { label: string; button: ReactNode; className?: string; children: ReactNode; align?: 'left' | 'right'; up?: boolean }) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLSpanElement>(null);
  const id = useId();
  useEffect(() => {
    if (!open) return;
    const away = (e: Event) => {
      if (!box.current?.contains(e.target as Node)) setOpen(false);
    };
    document.addEventListener('pointerdown', away);
    document.addEventListener('focusin', away);
    box.current?.querySelector<HTMLElement>('.menu button, .menu a, .menu input')?.focus();
    return () => {
      document.removeEventListener('pointerdown', away);
      document.removeEventListener('focusin', away);
    };
  }, [open]);
  const keys = (e: React.KeyboardEvent) => {
    if (!open) return;
    const items = [...(box.current?.querySelectorAll<HTMLElement>('.menu button, .menu a') ?? [])];
    const at = items.indexOf(document.activeElement as HTMLElement);
    if (e.key === 'Escape') {
      setOpen(false);
      box.current?.querySelector('button')?.focus();
    } else if (e.key === 'ArrowDown') items[Math.min(at + 1, items.length - 1)]?.focus();
    else if (e.key === 'ArrowUp') items[Math.max(at - 1, 0)]?.focus();
    else return;
    e.preventDefault();
    e.stopPropagation();
  };
  const place: React.CSSProperties = { [align]: 0, ...(up ? { bottom: '100%' } : { top: '100%' }) };
  return (
    <span className="anchor" ref={box} onKeyDown={keys}>
      <button type="button" className={className ?? 'btn'} aria-haspopup="true" aria-expanded={open} aria-controls={open ? id : undefined} aria-label={label} title={label} onClick={() => setOpen(!open)}>
        {button}
      </button>
      {open && (
        <div
          className="menu" id={id} style={place}
          onClick={(e) => {
            if ((e.target as HTMLElement).closest('button, a') && !(e.target as HTMLElement).closest('[data-stay]')) setOpen(false);
          }}
        >
          {children}
        </div>
      )}
    </span>
  );
}

/** A modal dialog: the browser's own, so that focus stays inside and Escape closes it. */
export function Dialog({ title, onClose, children, footer, onSubmit }: { title: ReactNode; onClose: () => void; children: ReactNode; footer?: ReactNode; onSubmit?: () => void }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const d = ref.current;
    const back = document.activeElement as HTMLElement | null;
    if (d && !d.open) d.showModal();
    return () => back?.focus();
  }, []);
  const inner = (
    <>
      <header>
        <h2 id={id} className="grow">{title}</h2>
        <button type="button" className="btn icon" aria-label="Close" onClick={onClose}><Icon name="cross" /></button>
      </header>
      <div className="content">{children}</div>
      {footer && <footer>{footer}</footer>}
    </>
  );
  return (
    <dialog ref={ref} className="d" aria-labelledby={id} onCancel={(e) => { e.preventDefault(); onClose(); }} onMouseDown={(e) => { if (e.target === ref.current) onClose(); }}>
      {onSubmit ? <form onSubmit={(e) => { e.preventDefault(); onSubmit(); }}>{inner}</form> : <div className="dbody">{inner}</div>}
    </dialog>
  );
}

// Toasts: short words about what was done.
interface Toast { id: number; text: string; bad: boolean }
let toasts: readonly Toast[] = [];
let nextToast = 1;
const toastListeners = new Set<() => void>();

export function toast(text: string, bad = false): void {
  const t = { id: nextToast++, text, bad };
  toasts = [...toasts.slice(-3), t];
  for (const l of toastListeners) l();
  setTimeout(() => dismiss(t.id), bad ? 12000 : 5000);
}

export function toastError(e: unknown): void {
  toast(e instanceof Error ? e.message : String(e), true);
}

function dismiss(id: number) {
  toasts = toasts.filter((t) => t.id !== id);
  for (const l of toastListeners) l();
}

export function Toasts() {
  const list = useSyncExternalStore((l) => { toastListeners.add(l); return () => toastListeners.delete(l); }, () => toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {list.map((t) => (
        <div key={t.id} className={t.bad ? 'toast bad' : 'toast'} role={t.bad ? 'alert' : undefined}>
          <span className="grow">{t.text}</span>
          <button type="button" aria-label="Dismiss" onClick={() => dismiss(t.id)}>✕</button>
        </div>
      ))}
    </div>
  );
}

export function Loading() {
  return <p className="empty" role="status">Loading…</p>;
}

export function Failed({ error }: { error: unknown }) {
  return <p className="notice bad" role="alert">{error instanceof Error ? error.message : String(error)}</p>;
}

export function Empty({ children }: { children: ReactNode }) {
  return <p className="empty">{children}</p>;
}

export function Tabs({ tabs, current, label }: { tabs: { key: string; label: ReactNode; href: string }[]; current: string; label: string }) {
  return (
    <nav className="tabs" aria-label={label}>
      {tabs.map((t) => (
        <Link key={t.key} href={t.href} className={t.key === current ? 'on' : ''} aria-current={t.key === current ? 'page' : undefined}>{t.label}</Link>
      ))}
    </nav>
  );
}

/** Asks before something that cannot be undone. */
export function Confirm({ title, children, action, danger, onConfirm, onClose }: { title: string; children: ReactNode; action: string; danger?: boolean; onConfirm: () => Promise<unknown>; onClose: () => void }) {
  const [busy, setBusy] = useState(false);
  return (
    <Dialog
      title={title} onClose={onClose}
      onSubmit={() => {
        setBusy(true);
        onConfirm().then(onClose, (e: unknown) => { setBusy(false); toastError(e); });
      }}
      footer={<><button type="button" className="btn" onClick={onClose}>Cancel</button><button className={danger ? 'btn danger' : 'btn primary'} disabled={busy}>{action}</button></>}
    >
      {children}
    </Dialog>
  );
}

export function Facts({ items }: { items: [string, ReactNode][] }) {
  return <dl className="facts" style={{ margin: 0 }}>{items.filter(([, v]) => v !== null && v !== undefined && v !== '' && v !== false).map(([k, v]) => <div key={k}><dt>{k}</dt><dd>{v}</dd></div>)}</dl>;
}

/** A value of the API as text: JSON for objects, nothing for null. */
export function show(v: unknown): string {
  if (v === null || v === undefined) return '';
  return typeof v === 'string' ? v : JSON.stringify(v, null, 2);
}

export function KeyValues({ items }: { items: [string, ReactNode][] }) {
  return <dl className="kv" style={{ margin: 0 }}>{items.map(([k, v]) => <Row key={k} k={k} v={v} />)}</dl>;
}

function Row({ k, v }: { k: string; v: ReactNode }) {
  return <><dt>{k}</dt><dd>{v}</dd></>;
}

export function CopyButton({ text, label = 'Copy' }: { text: () => string; label?: string }) {
  return (
    <button type="button" className="btn icon" aria-label={label} title={label} onClick={() => { navigator.clipboard.writeText(text()).then(() => toast('Copied.'), () => toast('The browser does not allow copying here.', true)); }}>
      <Icon name="copy" />
    </button>
  );
}

/** Saves a text as a file of the user's. */
export function save(name: string, text: string, type = 'text/plain'): void {
  const href = URL.createObjectURL(new Blob([text], { type }));
  const a = document.createElement('a');
  a.href = href;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}

/** A link given by users: only to web and mail addresses, else plain text. */
export function SafeLink({ href, children }: { href: string; children: ReactNode }) {
  return /^(https?:\/\/|mailto:)/i.test(href.trim()) ? <a href={href.trim()} target="_blank" rel="noopener noreferrer">{children}</a> : <>{children}</>;
}
