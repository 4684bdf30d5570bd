import { useGet } from '../lib/query';
import { CopyButton, Empty, Failed, Loading, Time } from '../ui/base';

interface ImportError {
  import_error_id: number;
  timestamp: string;
  filename: string;
  bundle_name: string | null;
  stack_trace: string;
}

/** Files of the DAG folder that could not be read, with what is wrong. */
export default function ImportErrors() {
  const list = useGet<{ import_errors: ImportError[]; total_entries: number }>('api/v2/importErrors?order_by=-timestamp&limit=100');
  return (
    <div className="page">
      <h1>Import errors</h1>
      {list.isError && <Failed error={list.error} />}
      {list.isPending && <Loading />}
      {list.data && list.data.import_errors.length === 0 && <Empty>All DAG files were read without errors.</Empty>}
      {list.data?.import_errors.map((e) => (
        <section key={e.import_error_id} className="card" aria-label={e.filename}>
          <div className="row"><h2 className="grow mono">{e.filename}</h2><span className="muted small"><Time t={e.timestamp} /></span><CopyButton text={() => e.stack_trace} label="Copy the error" /></div>
          <pre style={{ marginTop: 6 }}>{e.stack_trace}</pre>
        </section>
      ))}
    </div>
  );
}
