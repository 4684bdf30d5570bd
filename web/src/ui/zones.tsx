import { useState } from 'react';
import { usePref } from '../lib/prefs';
import { formatTime, localZone, offsetOf } from '../lib/time';
import { Dialog } from './base';

/** Choice of the time zone of all times. */
export default function Zones({ onClose }: { onClose: () => void }) {
  const [choice, setChoice] = usePref('timezone', 'UTC');
  const [text, setText] = useState('');
  const all = Intl.supportedValuesOf('timeZone').filter((z) => z !== 'UTC');
  const found = all.filter((z) => z.toLowerCase().replaceAll('_', ' ').includes(text.toLowerCase().replaceAll('_', ' '))).slice(0, 60);
  const option = (zone: string, label: string, real: string) => (
    <li key={zone}>
      <button type="button" className="btn" style={{ width: '100%', justifyContent: 'space-between' }} aria-pressed={choice === zone} onClick={() => { setChoice(zone); onClose(); }}>
        <span>{label}</span><span className="mono">{offsetOf(real)}</span>
      </button>
    </li>
  );
  return (
    <Dialog title="Time zone" onClose={onClose}>
      <p className="muted">Now: {formatTime(new Date(), choice === 'local' ? localZone() : choice)}. Times are shown in this zone on this browser.</p>
      <input type="search" aria-label="Search time zones" placeholder="Search time zones" value={text} onChange={(e) => setText(e.target.value)} />
      <ul className="stack" style={{ listStyle: 'none', padding: 0, margin: 0, gap: 4 }}>
        {option('UTC', 'UTC', 'UTC')}
        {option('local', `Local (${localZone()})`, localZone())}
        {found.map((z) => option(z, z.replaceAll('_', ' '), z))}
      </ul>
    </Dialog>
  );
}
