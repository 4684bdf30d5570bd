import { activeShortcuts } from '../lib/keys';
import { Dialog } from './base';

export default function KeyHelp({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <table className="t">
        <tbody>
          {activeShortcuts().map((s) => (
            <tr key={s.keys + s.does}>
              <td className="nowrap">{s.keys.split(' ')[0]?.split('+').map((k, i) => <span key={k}>{i > 0 && ' + '}<kbd>{k}</kbd></span>)}</td>
              <td>{s.does}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Dialog>
  );
}
